"""A fleet under steady load for a long time: whether anything grows that should not."""
