"""The experiment file: its models, how it is read and checked, and how it is resolved to the accepted experiment."""
