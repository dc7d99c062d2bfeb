"""Durable shards: enqueue, lease, settle, dead letters."""
