"""Snapshots of the store and of Jobs: frozen values for the planner, and their reader."""
