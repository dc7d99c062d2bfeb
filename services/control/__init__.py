"""Configuration, membership and concurrency shares."""
