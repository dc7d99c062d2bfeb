"""One module for each command of `evenflow`."""
