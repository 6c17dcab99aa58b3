"""Pipelines around a language model: breakers, batchers, streams, budgets, late results."""
