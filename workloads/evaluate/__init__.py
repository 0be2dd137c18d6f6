"""The generate program: one engine, many adapters and benchmarks; outputs are committed per evaluation."""
