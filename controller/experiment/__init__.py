"""The researcher's file: its models, how it is read, checked, and resolved to an experiment as accepted."""
