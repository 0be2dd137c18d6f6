"""Deletes what no experiment of a store needs."""
