"""Code answers: run in the sandbox, compared with evalplus's rules."""
