"""Deletes objects of a store that no experiment needs."""
