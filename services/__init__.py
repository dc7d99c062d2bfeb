"""The services of Evenflow; each its own process."""
