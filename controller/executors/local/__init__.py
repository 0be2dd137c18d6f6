"""Runs tasks as subprocesses of this machine."""
