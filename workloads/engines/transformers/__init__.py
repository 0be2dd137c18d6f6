"""The small engine, for laptops and tests."""
