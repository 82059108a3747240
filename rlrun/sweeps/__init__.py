"""One command, many runs: Hydra's sweeper and launcher for rlrun, the checks all jobs pass first, and running them."""

from rlrun.sweeps.jobs import NOT_TUNED, Job, check_device, check_jobs, make_job
from rlrun.sweeps.plugins import register
from rlrun.sweeps.runner import Result, create_run, run_sweep, train_run

__all__ = [
    "NOT_TUNED",
    "Job",
    "Result",
    "check_device",
    "check_jobs",
    "create_run",
    "make_job",
    "register",
    "run_sweep",
    "train_run",
]
