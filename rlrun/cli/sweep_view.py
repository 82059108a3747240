"""What a user sees of a sweep: one live view of all batches on a terminal, plain lines in a pipe, nothing with ``-q``."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlrun.cli.output import counted, say, shown_evaluation, shown_number, shown_path, terminal, unless_closed, warn
from rlrun.plain import printable
from rlrun.provenance import clean
from rlrun.run import Run
from rlrun.sweeps.batches import Batch
from rlrun.sweeps.launcher import SweepView
from rlrun.sweeps.summary import rows_of

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FRAMES = 0.5
_MOST_BATCHES = 12  # lines of running batches
_MANY_RUNS = 32  # from here on only evaluations that are the best of the sweep are printed


def choose_sweep_view(quiet: bool) -> SweepView:
    """The view for this terminal, pipe, or wish for silence."""
    if quiet:
        return QuietSweepView()
    return TerminalSweepView(terminal()) if sys.stdout.isatty() else PlainSweepView()


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


class QuietSweepView:
    """Keeps count, and shows nothing."""

    def start(self, directory: Path, runs: Sequence[Run], batches: Sequence[Batch], workers: int) -> None:
        """The sweep begins; ``runs`` are all of it, ``batches`` what is left to train."""
        rows = {row.directory: row for row in rows_of(runs, {})}
        self.names = {name: f"#{row.job} {_words(row.settings)}" for name, row in rows.items()}
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

    def header(self, batch: int, header: Mapping[str, str]) -> None:
        """The worker trains; ``header`` is what the loop says of it."""

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

    def note(self, line: str) -> None:
        """A notice, which is seen also where nothing else is."""
        warn(line)

    def ended(self, batch: int, member: int, status: str, error: str | None) -> None:
        """One member has ended."""
        self.batches[batch].ended[member] = status

    def left(self, batch: int) -> None:
        """The worker process has gone."""
        self.batches[batch].running = False

    def tick(self) -> None:
        """Called several times a second."""

    def finish(self) -> None:
        """The sweep has ended, in whatever way."""

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


class PlainSweepView(QuietSweepView):
    """Lines: when a batch begins and ends, every evaluation and failure, and progress about every ten seconds."""

    def start(self, directory: Path, runs: Sequence[Run], batches: Sequence[Batch], workers: int) -> None:
        super().start(directory, runs, batches, workers)
        self._last_line = time.monotonic()
        say(self.title(directory, workers))

    def launched(self, batch: int) -> None:
        super().launched(batch)
        state = self.batches[batch]
        say(f"batch {batch + 1} of {len(self.batches)}: {counted(state.members, 'run')}  {state.label}")

    def header(self, batch: int, header: Mapping[str, str]) -> None:
        line = self.news(header)
        if line is not None:
            say(line)

    def evaluated(self, batch: int, member: int, frames: int, result: Mapping[str, Any], best: bool) -> None:
        line = self.line_of(batch, member, frames, result)
        if line is not None:
            say(line)
        super().evaluated(batch, member, frames, result, best)

    def ended(self, batch: int, member: int, status: str, error: str | None) -> None:
        super().ended(batch, member, status, error)
        if error is not None:
            say(f"{self.names[self.members[batch][member]]} failed: {printable(error)}")

    def left(self, batch: int) -> None:
        super().left(batch)
        count = Counter(self.batches[batch].ended.values())
        how = ", ".join(f"{number} {status}" for status, number in sorted(count.items()))
        say(f"batch {batch + 1} of {len(self.batches)} ended: {how or 'stopped'}")

    def tick(self) -> None:
        if time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            done, total, speed = self.totals()
            say(f"{done:,}/{total:,} agent-frames  {speed:,.0f}/s  {self.counts()}")


class TerminalSweepView(QuietSweepView):
    """A bar for the whole sweep and a line for each running batch, drawn over themselves; evaluations scroll by above."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(
            console=console, auto_refresh=False
        )  # drawn from here: a thread would compete with the workers
        self._last_drawn = 0.0
        self._title = ""

    def start(self, directory: Path, runs: Sequence[Run], batches: Sequence[Batch], workers: int) -> None:
        super().start(directory, runs, batches, workers)
        self._title = self.title(directory, workers)
        with unless_closed():  # Live must not meet a dead terminal in its start, which would leave it half done
            self._console.show_cursor(False)
        with unless_closed():
            self._live.start()
            self._draw(force=True)

    def header(self, batch: int, header: Mapping[str, str]) -> None:
        line = self.news(header)
        if line is not None:
            self._print(line, "dim")

    def evaluated(self, batch: int, member: int, frames: int, result: Mapping[str, Any], best: bool) -> None:
        line = self.line_of(batch, member, frames, result)
        super().evaluated(batch, member, frames, result, best)
        if line is not None:
            self._print(line)

    def note(self, line: str) -> None:
        self._print(printable(clean(line)), "yellow")

    def ended(self, batch: int, member: int, status: str, error: str | None) -> None:
        super().ended(batch, member, status, error)
        if error is not None:
            self._print(f"{self.names[self.members[batch][member]]} failed: {printable(clean(error))}", "red")

    def tick(self) -> None:
        with unless_closed():
            self._draw()

    def finish(self) -> None:
        if self._live.is_started:
            with unless_closed():
                self._draw(force=True)
            with unless_closed():  # though the last picture failed: it gives stdout back
                self._live.stop()

    def _print(self, line: str, style: str = "") -> None:
        with unless_closed():
            self._console.print(Text(line, style=style))

    def _draw(self, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._last_drawn >= _SECONDS_BETWEEN_FRAMES:
            self._last_drawn = now
            self._live.update(self._rendered(now), refresh=True)

    def _rendered(self, now: float) -> RenderableType:
        done, total, speed = self.totals()
        left = f"{_clock((total - done) / speed)} left" if speed else ""
        bar = Table.grid(padding=(0, 2))
        share = f"{done / max(total, 1):.0%}"
        bar.add_row(
            ProgressBar(total=max(total, 1), completed=done, width=30), share, f"{done:,}/{total:,} agent-frames",
            f"{speed:,.0f}/s", left,
        )  # fmt: skip
        lines = Table.grid(padding=(0, 2))
        running = [batch for batch in self.batches if batch.running]
        for batch in running[:_MOST_BATCHES]:
            mean = f"return {shown_number(batch.return_mean)}" if batch.return_mean is not None else ""
            frames = f"{batch.frames:,}/{batch.total_frames:,}"
            runs, batch_speed = counted(batch.active, "run"), f"{batch.speed(now):,.0f}/s"
            lines.add_row(*(Text(cell) for cell in (runs, frames, batch_speed, mean, batch.label)))
        more = len(running) - _MOST_BATCHES
        rest = [Text(f"and {more} more batches", style="dim")] if more > 0 else []
        best = [Text(f"best so far  {self.best[1]}", style="green")] if self.best else []
        return Group(Text(self._title, style="bold"), bar, Text(self.counts()), lines, *rest, *best)


def _words(settings: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items())


def _label(members: Sequence[Mapping[str, str]]) -> str:
    """What a batch's members have in common, and in how many values they differ."""
    words = []
    for key in members[0]:
        values = {settings[key] for settings in members}
        words.append(f"{key}={values.pop()}" if len(values) == 1 else f"{key}: {len(values)} values")
    return "  ".join(words)


def _clock(seconds: float) -> str:
    """``1:02:03``."""
    minutes, rest = divmod(int(min(seconds, 1e9)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
