"""Expected calibration error, as an `evaluate` module."""
