"""The recipes of the package, a folder for each family; `catalog` finds them by name."""
