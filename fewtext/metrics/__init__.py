"""Scores as plain functions (`fewtext.metrics.scores`) and as `evaluate` modules that need no network."""
