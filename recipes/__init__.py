"""Recipes are programs, not a library: run them, or copy them; import from `fewtext`."""

raise ModuleNotFoundError("recipes are programs and cannot be imported; what they use stands in the fewtext package")
