"""What passes between the controller and the programs in pods: pure pydantic, no I/O, no torch.

A *unit* is a piece of work named by the digest of everything that decides its result (`units`). A *task* is one
attempt's durable order to a pod (`tasks`). A *record* is what an attempt leaves, and a *marker* the small object
that makes its files count (`records`). `experiment` is an experiment as accepted; `layout` holds every store key.
"""
