"""A process sandbox for hostile Python: no network, no files except the standard library's, no other process, no golds.

`pool` is what the grader uses. It starts one small server per worker (`server`, standard library only). The server
makes the isolated root (`place`: namespaces, a separate root), forks a `candidate` per suite, locks it (`lock`: limits,
capabilities, Landlock, seccomp) and watches it from outside: its CPU clock, its wall clock, its output.
`docs/grading.md` lists the threats and which layer stops each.
"""
