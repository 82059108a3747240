"""Storms: what rlrun promises of exact resuming and of its checkpoints, tried many times over by force.

Each storm is a module with ``RUNS``, its usual size, and ``storm(runs, seed) -> rows``; ``python -m benchmarks reliability``
runs them by name, and the tests a small part of each.
"""
