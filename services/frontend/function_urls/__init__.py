"""Function URLs: HTTP addresses that invoke a function, payload format 2.0."""
