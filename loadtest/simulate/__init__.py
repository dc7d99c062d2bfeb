"""A simulator that runs the fleet's own policies on a virtual clock: placement, stale depths, queues, noisy tenants."""
