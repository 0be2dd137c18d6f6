"""Executors, which run tasks: as subprocesses of this machine, or as Jobs in a cluster."""
