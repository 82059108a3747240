"""How far a sweep is: what each batch has done, what is done of all, the best evaluation, and the words for these."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlrun.cli.output import counted, shown_evaluation, shown_number, shown_path
from rlrun.plain import printable
from rlrun.run import Run
from rlrun.sweeps.batches import Batch
from rlrun.sweeps.summary import rows_of

_MANY_RUNS = 32  # from here on only evaluations that are the best of the sweep are told


@dataclass
class Progress:
    """How far a batch is."""

    label: str
    members: int
    total_frames: int
    frames: int
    began: float = 0.0  # when it was first heard of progress
    first: int = 0  # frames then
    return_mean: float | None = None
    running: bool = False
    ended: dict[int, str] = field(default_factory=dict)  # member -> status

    @property
    def active(self) -> int:
        return self.members - len(self.ended)

    @property
    def done(self) -> int:
        """Agent-frames; a member that has finished or failed needs no more."""
        over = sum(status != "stopped" for status in self.ended.values())
        return (self.members - over) * self.frames + over * self.total_frames

    def speed(self, now: float) -> float:
        """Agent-frames a second."""
        seconds = now - self.began
        return (
            self.members * (self.frames - self.first) / seconds if self.running and self.began and seconds > 0 else 0.0
        )


class Tally:
    """Keeps count of a sweep, as it is told of what happens, and has the words for it."""

    def start(self, directory: Path, runs: Sequence[Run], batches: Sequence[Batch], workers: int) -> None:
        """The sweep begins; ``runs`` are all of it, ``batches`` what is left to train."""
        rows = {row.directory: row for row in rows_of(runs, {})}
        self.names = {name: row.label for name, row in rows.items()}
        self.batches = [
            Progress(
                _label([rows[run.directory.name].settings for run in batch.runs]),
                len(batch.runs),
                batch.runs[0].config.total_frames,
                frames=batch.frames or 0,
            )
            for batch in batches
        ]
        self.members = [[run.directory.name for run in batch.runs] for batch in batches]
        trained = {name for members in self.members for name in members}
        self.earlier = [run for run in runs if run.directory.name not in trained]
        self.best: tuple[float, str] | None = None
        self._comparable = len({run.config.env.id for run in runs}) == 1  # returns of one environment
        for run in runs:
            earlier = run.manifest.get("best")
            if isinstance(earlier, dict) and isinstance(earlier.get("frames"), int):
                self._weigh(earlier.get("return_mean"), earlier["frames"], run.directory.name)
        self.headers: set[str] = set()
        self._began, self._done_before = time.monotonic(), sum(batch.done for batch in self.batches)

    def launched(self, batch: int) -> None:
        """A worker process was started."""
        self.batches[batch].running = True

    def progress(self, batch: int, frames: int, return_mean: float | None) -> None:
        """``return_mean``: of the newest training episodes, over the members."""
        state = self.batches[batch]
        if not state.began:
            state.began, state.first = time.monotonic(), frames
        state.frames = frames
        state.return_mean = state.return_mean if return_mean is None else return_mean

    def evaluated(self, batch: int, member: int, frames: int, result: Mapping[str, Any], best: bool) -> None:
        """An evaluation of one member."""
        self._weigh(result.get("return_mean"), frames, self.members[batch][member])

    def _weigh(self, value: Any, frames: int, name: str) -> None:
        if self._is_best(value):
            self.best = value, f"{shown_number(value)} at {frames:,}  {self.names[name]}  {printable(name)}"

    def _is_best(self, value: Any) -> bool:
        return self._comparable and isinstance(value, float) and (self.best is None or value > self.best[0])

    def ended(self, batch: int, member: int, status: str, error: str | None) -> None:
        """One member has ended."""
        self.batches[batch].ended[member] = status

    def left(self, batch: int) -> None:
        """The worker process has gone."""
        self.batches[batch].running = False

    def line_of(self, batch: int, member: int, frames: int, result: Mapping[str, Any]) -> str | None:
        """An evaluation in words; None where there are too many to read and this one is not the best so far."""
        name, best = self.members[batch][member], self._is_best(result.get("return_mean"))
        if len(self.names) > _MANY_RUNS and not best:
            return None
        mean, deviation = shown_evaluation(dict(result)), shown_number(result.get("return_std"))
        episodes = counted(result.get("episodes", "?"), "episode")
        mark = "  (best of the sweep so far)" if best else ""
        return f"{self.names[name]}: {frames:,} frames: return {mean} ± {deviation} over {episodes}{mark}"

    def news(self, header: Mapping[str, str]) -> str | None:
        """The header of a worker as a line, once each."""
        line = printable("  ".join(f"{key}: {value}" for key, value in header.items()))
        new = line not in self.headers
        self.headers.add(line)
        return line if new else None

    def counts(self) -> str:
        """``3 done, 0 failed, 8 running, 5 waiting``."""
        count = Counter(status for batch in self.batches for status in batch.ended.values())
        running = sum(batch.active for batch in self.batches if batch.running)
        done = count["finished"] + len(self.earlier)
        waiting = sum(batch.active for batch in self.batches) - running
        stopped = f", {count['stopped']} stopped" if count["stopped"] else ""
        return f"{done} done, {count['failed']} failed, {running} running, {waiting} waiting{stopped}"

    def totals(self) -> tuple[int, int, float]:
        """Agent-frames done, of all, and a second since the start, in which workers also start and evaluate."""
        before = sum(run.config.total_frames for run in self.earlier)
        total = sum(batch.members * batch.total_frames for batch in self.batches)
        done, seconds = sum(batch.done for batch in self.batches), time.monotonic() - self._began
        return before + done, before + total, (done - self._done_before) / seconds if seconds > 0 else 0.0

    def title(self, directory: Path, workers: int) -> str:
        runs = sum(batch.members for batch in self.batches)
        what = f"{counted(runs, 'run')} in {len(self.batches)} {'batch' if len(self.batches) == 1 else 'batches'}"
        return f"sweep {shown_path(directory)}: {what}, {counted(min(workers, len(self.batches)), 'worker')}"


def _label(members: Sequence[Mapping[str, str]]) -> str:
    """What a batch's members have in common, and in how many values they differ."""
    words = []
    for key in members[0]:
        values = {settings[key] for settings in members}
        words.append(f"{key}={values.pop()}" if len(values) == 1 else f"{key}: {len(values)} values")
    return "  ".join(words)
