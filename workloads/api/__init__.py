"""The data that the controller and the programs in pods exchange: pydantic models without I/O or torch.

A *unit* is a piece of work, identified by the digest of all inputs of its result (`units`). A *task* is the stored
order to a pod for one attempt (`tasks`). A *record* is a result of an attempt, and a *marker* the small object that
commits the attempt's files (`records`). `experiment` is an accepted experiment; `store_keys` has every key of the
store.
"""
