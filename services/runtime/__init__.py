"""Hosts warm sandboxes."""
