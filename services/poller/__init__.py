"""Leases events, has them run, settles them; runs event sources."""
