"""Clients that leave: what a handler had begun and does not end."""
