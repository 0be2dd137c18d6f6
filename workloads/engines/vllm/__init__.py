"""The vLLM engine: all benchmarks and adapters in one continuous batch."""
