"""The attacks: handlers that run in a sandbox, and, as controls, in a plain process. Standard library only."""
