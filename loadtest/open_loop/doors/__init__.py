"""The ways in that a driver knows: each takes an event by its place and tells the outcomes what became of it."""
