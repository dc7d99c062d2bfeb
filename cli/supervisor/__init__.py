"""Runs a fleet on this machine: every service its own process, started, watched, restarted, drained."""
