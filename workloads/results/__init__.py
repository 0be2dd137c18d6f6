"""What an experiment found: the fold of records into a manifest, statistics, findings, and the gate. No torch."""
