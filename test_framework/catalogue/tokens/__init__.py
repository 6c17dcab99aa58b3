"""Tokens, keys and limits of logins: spent, refreshed and rotated by many at once."""
