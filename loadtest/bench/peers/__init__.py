"""The peers, run as their own documentation advises."""
