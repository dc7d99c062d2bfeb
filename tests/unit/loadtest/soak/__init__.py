"""The verdict of a soak run, on series whose truth is known."""
