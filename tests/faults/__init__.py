"""What goes wrong on purpose: faults that a queue must survive."""
