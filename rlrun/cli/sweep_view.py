"""What a user sees of a sweep: one live view of all batches on a terminal, plain lines in a pipe, nothing with ``-q``."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlrun.cli.output import counted, say, shown_number, terminal, warn
from rlrun.cli.picture import Picture
from rlrun.cli.sweep_tally import Tally
from rlrun.plain import printable
from rlrun.provenance import clean
from rlrun.run import Run
from rlrun.sweeps.batches import Batch
from rlrun.sweeps.launcher import SweepView

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FRAMES = 0.5
_MOST_BATCHES = 12  # lines of running batches


def choose_sweep_view(quiet: bool) -> SweepView:
    """The view for this terminal, pipe, or wish for silence."""
    if quiet:
        return QuietSweepView()
    return TerminalSweepView(terminal()) if sys.stdout.isatty() else PlainSweepView()


class QuietSweepView(Tally):
    """Keeps count, and shows nothing."""

    def header(self, batch: int, header: Mapping[str, str]) -> None:
        """The worker trains; ``header`` is what the loop says of it."""

    def note(self, line: str) -> None:
        """A notice, which is seen also where nothing else is."""
        warn(line)

    def tick(self) -> None:
        """Called several times a second."""

    def finish(self) -> None:
        """The sweep has ended, in whatever way."""


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
        self._picture = Picture(console, self._rendered, _SECONDS_BETWEEN_FRAMES)
        self._title = ""

    def start(self, directory: Path, runs: Sequence[Run], batches: Sequence[Batch], workers: int) -> None:
        super().start(directory, runs, batches, workers)
        self._title = self.title(directory, workers)
        self._picture.start()

    def header(self, batch: int, header: Mapping[str, str]) -> None:
        line = self.news(header)
        if line is not None:
            self._picture.print(line, "dim")

    def evaluated(self, batch: int, member: int, frames: int, result: Mapping[str, Any], best: bool) -> None:
        line = self.line_of(batch, member, frames, result)
        super().evaluated(batch, member, frames, result, best)
        if line is not None:
            self._picture.print(line)

    def note(self, line: str) -> None:
        self._picture.print(printable(clean(line)), "yellow")

    def ended(self, batch: int, member: int, status: str, error: str | None) -> None:
        super().ended(batch, member, status, error)
        if error is not None:
            self._picture.print(f"{self.names[self.members[batch][member]]} failed: {printable(clean(error))}", "red")

    def tick(self) -> None:
        self._picture.draw()

    def finish(self) -> None:
        self._picture.finish()

    def _rendered(self) -> RenderableType:
        now = time.monotonic()
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


def _clock(seconds: float) -> str:
    """``1:02:03``."""
    minutes, rest = divmod(int(min(seconds, 1e9)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
