"""When which tenant sends what: seeded schedules that are known before the first send. Pure."""
