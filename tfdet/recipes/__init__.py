"""The recipes that come with the package, a folder for each family; `catalog` finds them by name."""
