"""What runs tasks: subprocesses of this machine, or Jobs of a cluster."""
