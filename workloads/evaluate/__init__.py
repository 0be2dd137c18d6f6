"""The generate program: one engine, many adapters and benchmarks, outputs committed per evaluation."""
