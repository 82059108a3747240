"""What passes between training and those who watch it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rlrun.errors import RlrunError
from rlrun.run import Run


class View(Protocol):
    """Who watches. Called only between steps; never changes a bit of training."""

    def start(self, runs: Sequence[Run], header: Mapping[str, str]) -> None: ...
    def progress(
        self, frames: int, total_frames: int, frames_per_second: float, latest: Sequence[Mapping[str, Any]]
    ) -> None: ...
    def evaluated(self, member: int, frames: int, result: Mapping[str, Any], best: bool) -> None: ...
    def note(self, line: str) -> None: ...
    def ended(self, member: int, status: str, error: RlrunError | None) -> None: ...
    def finish(self) -> None: ...


@dataclass
class Outcome:
    """How a run ended."""

    run: Run
    status: str  # finished, stopped or failed
    error: RlrunError | None = None
    signal: int | None = None
