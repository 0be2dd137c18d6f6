"""Potstill on Kubernetes: makes Jobs from tasks, watches Jobs and pods, and writes each Experiment's status once a
round.
"""
