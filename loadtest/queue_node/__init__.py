"""One queue node by itself: a real process, and a client that costs it little of the machine."""
