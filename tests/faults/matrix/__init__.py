"""The fault matrix: a real fleet under seeded load, one fault after the other, and whether anything was lost."""
