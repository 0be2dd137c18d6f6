"""Math answers: compared as values."""
