"""A secret in code; the harness puts another one here for each run."""

SECRET = "none"
