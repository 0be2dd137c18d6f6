"""The results of an experiment: the manifest from records, statistics, findings, and the gate. No torch."""
