"""The grader for code: answers run in the sandbox and are compared with evalplus's rules."""
