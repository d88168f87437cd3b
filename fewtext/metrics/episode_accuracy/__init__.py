"""Accuracy over episodes with its confidence interval, as an `evaluate` module."""
