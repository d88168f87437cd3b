"""The jobs behind the `fewtext` command and the recipes: data in, artifact and results out.

Each job is a dataclass of options, whose docstring is its `--help`, and a function that shows how the pieces of the
package fit together.
"""
