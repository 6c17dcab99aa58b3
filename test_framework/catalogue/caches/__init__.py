"""Caches, singletons and tokens: made once, read by all, replaced while in use."""
