"""Statistics: intervals, tests and their adjustment. Pure."""
