"""fewtext."""
