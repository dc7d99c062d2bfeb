"""A fleet beside the same fleet when more is on it: a deep backlog, many functions."""
