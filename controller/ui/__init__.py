"""`potstill ui`: one read-only page for all experiments of a store."""
