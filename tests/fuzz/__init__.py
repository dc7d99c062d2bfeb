"""Requests that nobody would send, by the hundred thousand: no answer of the HTTP door is a fault of its own."""
