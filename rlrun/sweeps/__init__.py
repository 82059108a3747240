"""One command, many runs: jobs are checked, grouped into populations, and trained by one process a population.

This file imports nothing: a worker (``rlrun.sweeps.worker``) pays for every import.
"""
