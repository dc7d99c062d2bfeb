"""A thousand functions on a host with memory for fifty sandboxes."""
