"""Potstill on Kubernetes: Jobs from tasks, the world from watches, the experiment's status written once a round."""
