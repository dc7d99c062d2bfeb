"""Runs docker-compose.yml without Docker: each container a process in namespaces of its own."""
