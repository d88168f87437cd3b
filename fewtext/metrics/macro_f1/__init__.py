"""Macro-F1, as an `evaluate` module."""
