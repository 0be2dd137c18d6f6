"""What to do next, decided from a snapshot. Pure: no clock, no I/O, no memory."""
