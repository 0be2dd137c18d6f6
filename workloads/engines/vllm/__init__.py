"""vLLM: every benchmark and adapter in one continuous batch."""
