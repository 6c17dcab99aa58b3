"""Statements that are atomic one by one, and programs that need them to be so together."""
