"""Whether a tenant that floods the fleet delays another one: a real fleet, open loop, dwell from the intended send."""
