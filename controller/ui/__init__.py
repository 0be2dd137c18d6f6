"""`potstill ui`: a read-only page for all experiments of a store."""
