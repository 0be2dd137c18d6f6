"""The stages of an experiment, one file each, and their registry. A stage names its program but does not import it."""
