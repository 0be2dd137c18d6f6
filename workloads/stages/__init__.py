"""One file for each stage of an experiment, and their registry. A stage names its program and imports none."""
