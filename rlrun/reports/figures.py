"""The figures of the two official PyTorch tutorials, drawn from a run's files into ``plots/``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.errors import StorageError
from rlrun.metrics import read_episodes, read_rows
from rlrun.plain import reason_of, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rlrun.view import Outcome, View

WINDOW = 100  # episodes in the running mean


def draw_figures(outcomes: Sequence[Outcome], view: View) -> None:
    """Draw what the configs of runs that have ended ask for."""
    for outcome in outcomes:
        if outcome.run.config.plot.figures != "none" and outcome.status != "failed":
            try:
                view.note(f"figure: {draw(outcome.run.config.plot.figures, outcome.run.directory)}")
            except Exception as error:  # a picture is never worth a run
                view.note(f"no figure: {type(error).__name__}: {error}")


def draw(kind: str, directory: Path) -> Path:
    """Draw the ``dqn`` or ``ppo`` tutorial's figure of a run and return the PNG's path.

    Raises:
        StorageError: it cannot be written.
    """
    figure = _durations(directory) if kind == "dqn" else _panels(directory)
    path = directory / "plots" / f"tutorial_{kind}.png"
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't make {path.parent}: {reason_of(error)}") from error
    if path.parent.is_symlink():  # a foreign run must not make us write elsewhere
        raise StorageError(f"{path.parent} is a symbolic link; figures need a real folder")
    write_atomically(path, picture.getvalue())
    return path


def running_mean(values: np.ndarray[Any, Any], window: int) -> np.ndarray[Any, Any]:
    """Mean of each value and the ``window - 1`` before it; shorter than ``values`` by ``window - 1``, empty if they are fewer."""
    if len(values) < window:
        return np.empty(0)
    totals = np.cumsum(np.concatenate([[0.0], values]))
    means: np.ndarray[Any, Any] = (totals[window:] - totals[:-window]) / window
    return means


def _durations(directory: Path) -> Figure:
    """Length of every episode and the mean of the last 100, as in the DQN tutorial."""
    figure = _figure((7, 4))
    axes = figure.subplots()
    lengths = read_episodes(directory)["length"]
    axes.plot(np.arange(1, len(lengths) + 1), lengths, linewidth=0.8, color="0.6", label="episode")
    mean = running_mean(lengths, WINDOW)
    axes.plot(np.arange(WINDOW, WINDOW + len(mean)), mean, linewidth=2, color="C3", label=f"mean of {WINDOW} episodes")
    _label(axes, "Episode durations", "episode", "steps")
    axes.legend(loc="upper left", frameon=False)
    return figure


def _panels(directory: Path) -> Figure:
    """Training reward and step count, test return and step count, as in the PPO tutorial."""
    figure = _figure((10, 7))
    rows = read_rows(directory / "metrics.jsonl")
    panels = [
        ("train", "reward_mean", "Training reward (average)", "reward per step"),
        ("train", "length_max", "Training step count (longest episode)", "steps"),
        ("evaluation", "return_mean", "Test return", "return"),
        ("evaluation", "length_max", "Test step count (longest episode)", "steps"),
    ]
    for axes, (kind, key, title, unit) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        points = [(row["frames"], row[key]) for row in rows if row["type"] == kind and row.get(key) is not None]
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=3, linewidth=1.2)
        _label(axes, title, "frames", unit)
    return figure


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    return Figure(figsize=size, layout="constrained")


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set(title=title, xlabel=x, ylabel=y)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
