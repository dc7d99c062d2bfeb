"""The functions that load runs invoke, what an event tells them to do, and what they leave behind."""
