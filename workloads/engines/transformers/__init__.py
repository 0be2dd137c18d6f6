"""The transformers engine, for laptops and tests."""
