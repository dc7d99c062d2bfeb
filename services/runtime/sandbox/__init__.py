"""What runs inside the prepared parent and the sandboxes: standard library only, loaded there as `evenflow_sandbox`."""
