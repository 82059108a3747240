"""What a user sees while training: a live view on a terminal, plain lines in a pipe, nothing with ``-q``."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from rlrun.cli.output import counted, say, shown_evaluation, shown_number, terminal, warn
from rlrun.cli.picture import Picture
from rlrun.plain import printable
from rlrun.provenance import clean
from rlrun.sweeps.jobs import NOT_TUNED

if TYPE_CHECKING:
    from rlrun.errors import RlrunError
    from rlrun.run import Run
    from rlrun.view import View

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FRAMES = 0.25
_BARS = "▁▂▃▄▅▆▇█"
_SPARKLINE_WIDTH = 40


def choose_view(quiet: bool) -> View:
    """The view for this terminal, pipe, or wish for silence."""
    if quiet:
        return QuietView()
    return TerminalView(terminal()) if sys.stdout.isatty() else PlainView()


class QuietView:
    """Shows nothing."""

    def start(self, runs: Sequence[Run], header: Mapping[str, str]) -> None:
        """Training begins."""

    def progress(
        self, frames: int, total_frames: int, frames_per_second: float, latest: Sequence[Mapping[str, Any]]
    ) -> None:
        """``latest`` is the newest row of metrics of each member."""

    def evaluated(self, member: int, frames: int, result: Mapping[str, Any], best: bool) -> None:
        """An evaluation of one member; ``best``: it is its best so far."""

    def note(self, line: str) -> None:
        """A notice, which is seen also where nothing else is."""
        warn(line)

    def ended(self, member: int, status: str, error: RlrunError | None) -> None:
        """One member has ended: finished, stopped or failed."""

    def finish(self) -> None:
        """Training has ended, in whatever way."""


class PlainView(QuietView):
    """Lines: the header, every evaluation and notice, and progress about every ten seconds."""

    def __init__(self) -> None:
        self._members = 1
        self._last_line = time.monotonic()

    def start(self, runs: Sequence[Run], header: Mapping[str, str]) -> None:
        self._members = len(runs)
        say(printable("  ".join(f"{key}: {value}" for key, value in _header(runs, header).items())))

    def progress(
        self, frames: int, total_frames: int, frames_per_second: float, latest: Sequence[Mapping[str, Any]]
    ) -> None:
        if time.monotonic() - self._last_line < _SECONDS_BETWEEN_LINES:
            return
        self._last_line = time.monotonic()
        numbers = "  ".join(f"{name}: {value}" for name, value in _newest(latest).items())
        say(f"{frames:,}/{total_frames:,} frames  {frames_per_second:,.0f}/s  {numbers}".rstrip())

    def evaluated(self, member: int, frames: int, result: Mapping[str, Any], best: bool) -> None:
        say(_evaluation_line(self._members, member, frames, result, best))


class TerminalView(QuietView):
    """A header, a progress bar and the newest numbers, drawn over themselves; evaluations scroll by above."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("frames"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
        )
        self._task = self._progress.add_task("", total=None, speed="")
        self._picture = Picture(console, self._rendered, _SECONDS_BETWEEN_FRAMES)
        self._header = Text()
        self._latest: Sequence[Mapping[str, Any]] = ()
        self._returns: deque[float] = deque(maxlen=_SPARKLINE_WIDTH)
        self._best: dict[int, str] = {}
        self._members = 1

    def start(self, runs: Sequence[Run], header: Mapping[str, str]) -> None:
        self._members = len(runs)
        self._header = Text("  ").join(
            Text.assemble((f"{printable(key)} ", "dim"), (printable(value), "bold"))
            for key, value in _header(runs, header).items()
        )
        self._picture.start()

    def progress(
        self, frames: int, total_frames: int, frames_per_second: float, latest: Sequence[Mapping[str, Any]]
    ) -> None:
        self._progress.update(self._task, completed=frames, total=total_frames, speed=f"{frames_per_second:,.0f}/s")
        self._latest = latest
        value = mean_return(latest)
        if value is not None:
            self._returns.append(value)
        self._picture.draw()

    def evaluated(self, member: int, frames: int, result: Mapping[str, Any], best: bool) -> None:
        if best:
            self._best[member] = f"{shown_evaluation(dict(result))} at {frames:,}"
        self._picture.print(_evaluation_line(self._members, member, frames, result, best))
        self._picture.draw(force=True)

    def note(self, line: str) -> None:
        self._picture.print(printable(clean(line)), "yellow")

    def finish(self) -> None:
        self._picture.finish()

    def _rendered(self) -> RenderableType:
        numbers = Table.grid(padding=(0, 2))
        for name, value in _newest(self._latest).items():
            numbers.add_row(Text(name, style="dim"), value)
        if self._returns:
            numbers.add_row(Text("returns", style="dim"), sparkline(self._returns))
        if self._best:
            best = ", ".join(self._best[member] for member in sorted(self._best)[:4])
            numbers.add_row(Text("best evaluation", style="dim"), Text(best, style="green"))
        return Group(self._header, self._progress, numbers)


def _header(runs: Sequence[Run], header: Mapping[str, str]) -> dict[str, str]:
    """What is trained, with which settings, before what the loop says of it."""
    config = runs[0].config
    seeds = [run.config.seed for run in runs]
    return {
        "algo": config.algo.name,
        "env": config.env.id,
        "seed": str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} and {len(seeds) - 1} more",
        "settings": _origin(runs[0].manifest),
        **header,
    }


def _origin(manifest: Mapping[str, Any]) -> str:
    """Where the settings that were not typed came from."""
    experiment, tuned = manifest.get("experiment"), manifest.get("tuned")
    if tuned == NOT_TUNED:
        return str(experiment or "tuned=none")
    return " and ".join(str(source) for source in (experiment, tuned) if source) or "not tuned for this pair"


def sparkline(values: Sequence[float] | deque[float]) -> str:
    """One bar a value, the lowest value the lowest bar."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    return "".join(_BARS[int((value - low) / span * (len(_BARS) - 1))] for value in finite)


def mean_return(latest: Sequence[Mapping[str, Any]]) -> float | None:
    """The mean over the members of their newest training return; None while no episode has ended."""
    returns = [row["return_mean"] for row in latest if isinstance(row.get("return_mean"), int | float)]
    return sum(returns) / len(returns) if returns else None


def _newest(latest: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The first member's newest numbers; returns are the mean over all members."""
    numbers = dict(latest[0]) if latest else {}
    if "return_mean" in numbers:
        numbers["return_mean"] = mean_return(latest)
    return {
        printable(name).replace("_", " "): f"{value:.4g}"
        for name, value in numbers.items()
        if isinstance(value, float) and math.isfinite(value)
    }


def _evaluation_line(members: int, member: int, frames: int, result: Mapping[str, Any], best: bool) -> str:
    who = f"member {member}: " if members > 1 else ""
    mean, deviation = shown_evaluation(dict(result)), shown_number(result.get("return_std"))
    episodes = counted(result.get("episodes", "?"), "episode")
    mark = "  (best so far)" if best else ""
    return f"{who}{frames:,} frames: return {mean} ± {deviation} over {episodes}{mark}"
