"""The capacity plan: how much a fleet carries, what breaks first, how many of each service a rate needs."""
