"""A fleet with a deep backlog beside the same fleet with a shallow one."""
