"""Decides the next actions from a snapshot. Pure: no clock, no I/O, no memory."""
