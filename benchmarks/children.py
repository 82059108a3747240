"""Child processes: one thread each, their wall clock, their peak memory, and the JSON line they print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
STARTED = "BENCHMARK_STARTED"
"""Environment variable: the clock (Unix time) just before the process was started."""
SETTINGS = "BENCHMARK_SETTINGS"
"""Environment variable: the case's settings as JSON, as rlrun composed them."""


@dataclass(frozen=True)
class Ended:
    """A child process that has ended well."""

    output: str
    started: float
    """Unix time."""
    wall_seconds: float
    peak_mb: float
    """Peak resident memory of the largest process: the child or one it waited for."""

    def answer(self) -> dict[str, Any]:
        """The JSON object on the last line of its output."""
        answer = json.loads(self.output.splitlines()[-1])
        assert isinstance(answer, dict)
        return answer


def module(name: str, *arguments: object) -> list[str]:
    """The command of ``python -m NAME ARGUMENTS``."""
    return [sys.executable, "-m", name, *map(str, arguments)]


def child(command: Sequence[str], settings: Mapping[str, Any] | None = None) -> Ended:
    """Run a command from the repository's root. ``settings`` are handed to it in its environment."""
    environment = os.environ | ONE_THREAD
    if settings is not None:
        environment[SETTINGS] = json.dumps(settings)
    with tempfile.TemporaryFile("w+") as errors:
        started = time.time()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment | {STARTED: repr(started)},
            cwd=ROOT,
            text=True,
        )
        output, peak_mb = _wait(process)
        wall_seconds = time.time() - started
        if process.returncode != 0:
            errors.seek(0)
            tail = "\n".join(errors.read().splitlines()[-15:])
            raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}\n{tail}")
    return Ended(output, started, wall_seconds, peak_mb)


def _wait(process: subprocess.Popen[str]) -> tuple[str, float]:
    """Output and peak memory in MB. Whatever interrupts the wait ends the child."""
    assert process.stdout is not None
    try:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    return output, usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024 * 1024)


def several(commands: Sequence[Sequence[str]], settings: Mapping[str, Any] | None, at_once: int) -> list[Ended]:
    """Run commands, ``at_once`` of them beside each other."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda command: child(command, settings), commands))
