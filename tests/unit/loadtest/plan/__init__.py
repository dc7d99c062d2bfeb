"""The capacity plan's conclusions, on data from known models."""
