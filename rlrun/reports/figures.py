"""The figures of runs: learning curves over seeds, losses, diagnostics, and those of the two official PyTorch tutorials.

One figure shows one environment, because returns of two have no common scale, and losses of one algorithm.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlrun.plain import write_atomically
from rlrun.reports import canvas
from rlrun.reports.canvas import STYLES, Entry
from rlrun.reports.panels import FIGURES, WINDOW, Curve, Line, Panel, curves_of, highest_of
from rlrun.reports.records import Group, Record, group
from rlrun.reports.statistics import iqm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

WANTED = {"auto": tuple(FIGURES), "dqn": ("episodes",), "ppo": ("four_panels",), "none": ()}
"""``plot.figures`` -> names of figures."""

_OF_ONE_ALGORITHM = ("losses", "diagnostics", "four_panels")
_MOST_MARKERS = 8  # of one line


@dataclass(frozen=True)
class Picture:
    """A figure to be saved as ``name.png``, ..."""

    name: str
    figure: Figure


@dataclass(frozen=True)
class _Sheet:
    """What all figures of one environment share: its groups, those of them that are drawn, with their styles."""

    environment: str
    groups: list[Group]
    shown: list[tuple[int, Group]]


def draw(records: Sequence[Record], names: Sequence[str] = tuple(FIGURES)) -> Iterator[Picture]:
    """The figures of these names, but for those that there is no data for, one by one. To be used within ``canvas.drawing``.

    Raises:
        ResumeError: a file of a run is damaged.
    """
    environments: dict[str, list[Record]] = {}
    for record in records:
        environments.setdefault(record.manifest["env_id"], []).append(record)
    used: set[str] = set()
    for environment, same in environments.items():
        groups = group(same)
        sheet = _Sheet(environment, groups, _shown(groups))
        algorithms = dict.fromkeys(_algorithm(each) for _, each in sheet.shown)
        for name in names:
            for algorithm in algorithms if name in _OF_ONE_ALGORITHM else (None,):
                figure = _figure(name, sheet, algorithm)
                if figure is not None:
                    parts = [environment] if len(environments) > 1 else []
                    parts += [algorithm] if algorithm and len(algorithms) > 1 else []
                    yield Picture(_file_name([name, *parts], used), figure)


def save(picture: Picture, place: Path, formats: Sequence[str]) -> list[Path]:
    """Write a figure into the folder ``place``. Raises StorageError."""
    paths = []
    for kind, data in canvas.pictures(picture.figure, formats).items():
        paths.append(place / f"{picture.name}.{kind}")
        write_atomically(paths[-1], data, durably=False)
    return paths


# --- what is drawn ----------------------------------------------------------------------------------------------------


def _shown(groups: Sequence[Group]) -> list[tuple[int, Group]]:
    """As many groups as can be told apart, those with the highest last returns, each with the number of its style."""
    best = sorted(range(len(groups)), key=lambda number: _place(groups[number]))[: len(STYLES)]
    return [(style, groups[number]) for style, number in enumerate(sorted(best))]


def _place(each: Group) -> tuple[int, float]:
    """Evaluations before training episodes, among which they are not ranked; then the highest last returns first."""
    for place, kind in enumerate(("evaluation", "train")):
        curves = [record.curve(kind, "return_mean")[1] for record in each.records]
        last = [values[-1] for values in curves if len(values) and math.isfinite(values[-1])]
        if last:
            return place, -iqm(last)
    return 2, 0.0


def _figure(name: str, sheet: _Sheet, algorithm: str | None) -> Figure | None:
    """The figure, of one algorithm if that is given; None if there is nothing to show."""
    shown = [(style, each) for style, each in sheet.shown if algorithm in (None, _algorithm(each))]
    drawn = [(panel, curves_of(panel, shown)) for panel in FIGURES[name]]
    drawn = [(panel, curves) for panel, curves in drawn if any(curve.lines for curve in curves)]
    if name == "episodes" and len(drawn) == 2 and _same_values(shown):
        del drawn[1]
    if not drawn or (name == "four_panels" and drawn[0][0].key != "reward_mean"):
        return None
    all_of_them = [each for each in sheet.groups if algorithm in (None, _algorithm(each))]
    dotted = any(len(where) == 1 for _, curves in drawn for curve in curves for where, _ in curve.thin)
    legend, notes = _legend(shown, name == "episodes"), _notes(all_of_them, shown, name == "episodes", dotted)
    figure, columns = canvas.new_figure(_title(sheet.environment, all_of_them), notes, legend, len(drawn))
    for axes, (panel, curves) in zip(columns, drawn, strict=True):
        _draw_panel(axes, panel, curves)
    return figure


def _same_values(shown: Sequence[tuple[int, Group]]) -> bool:
    """Whether every episode returned what it lasted, as in CartPole."""
    episodes = [record.episodes for _, each in shown for record in each.records]
    return all(np.array_equal(each["length"], each["return"]) for each in episodes)


def _algorithm(each: Group) -> str:
    return str(each.records[0].manifest["algo"])


def _file_name(parts: Sequence[str], used: set[str]) -> str:
    """A name for a file, which no other picture has. What it is made of may be anyone's."""
    plain = "_".join(re.sub(r"[^A-Za-z0-9._-]+", "-", part)[:60] for part in parts)
    names = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(1)))
    name = next(name for name in names if name.lower() not in used)
    used.add(name.lower())
    return name


# --- texts ------------------------------------------------------------------------------------------------------------


def _title(environment: str, groups: Sequence[Group]) -> str:
    """``PPO on CartPole-v1, 16 seeds``."""
    algorithms = dict.fromkeys(_algorithm(each).upper() for each in groups)
    what = _short(f"{' and '.join(algorithms)} on {environment}", 70)
    return f"{what}, {len(groups)} settings" if len(groups) > 1 else f"{what}, {_seeds(groups[0])}"


def _notes(groups: Sequence[Group], shown: Sequence[tuple[int, Group]], episodes: bool, dotted: bool) -> list[str]:
    records = [record for _, each in shown for record in each.records]
    notes = []
    if len(records) == 1:
        notes.append(f"{records[0].name} ({records[0].status})")
    if any(len(each.records) > 1 for _, each in shown):
        of = f"the mean of the last {WINDOW} episodes, " if episodes else ""
        notes.append(
            f"Thick: {of}interquartile mean (IQM) over seeds, up to where the first of them ends. "
            f"Band{' or bar' if dotted else ''}: its 95 % bootstrap interval. Thin{' or small dots' if dotted else ''}: single seeds."
        )
    unfinished = sum(record.status != "finished" for record in records)
    if unfinished and len(records) > 1:
        notes.append(f"{unfinished} of {len(records)} runs did not finish; where other seeds did, they are thin only.")
    hidden = len(groups) - len(shown)
    if hidden:
        notes.append(
            f"Not drawn: {hidden} more. Those drawn are among the {len(STYLES)} with the highest last returns."
        )
    return notes


def _legend(shown: Sequence[tuple[int, Group]], episodes: bool) -> list[Entry]:
    if len(shown) > 1:
        return [
            Entry(f"{_short(each.label, 110)} ({_seeds(each)})", STYLES[style] | {"linewidth": 1.8})
            for style, each in shown
        ]
    if episodes and len(shown[0][1].records) == 1:
        mean = STYLES[shown[0][0]] | {"linewidth": 2.0, "marker": ""}
        return [
            Entry("single episodes", {"color": "0.65", "linewidth": 0.8}),
            Entry(f"mean of the last {WINDOW} (of all until there are so many)", mean),
        ]
    return []


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _seeds(each: Group) -> str:
    seeds = [record.manifest["seed"] for record in each.records]
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    return f"{len(seeds)} {'seeds' if len(set(seeds)) == len(seeds) else 'runs'}"


# --- drawing ----------------------------------------------------------------------------------------------------------


def _draw_panel(axes: Axes, panel: Panel, curves: Sequence[Curve]) -> None:
    x, scale = _x_axis(panel, curves)
    many = len(curves) > 1
    thin, band = (0.25, 0.1) if len(curves) > 3 else (0.4, 0.18)  # opacity
    for number, curve in enumerate(curves):
        style = STYLES[curve.style]
        aside = number - len(curves) + 1 if curve.is_point else 0
        thin_lines = [line for line in curve.thin if len(line[0]) > 1]
        if thin_lines:
            where, values = _joined(thin_lines)
            axes.plot(where / scale, values, color=style["color"], alpha=thin, linewidth=0.6, zorder=1.5)
        dots = [line for line in curve.thin if len(line[0]) == 1]
        if dots:
            where, values = _joined(dots)
            drawn = axes.plot(where / scale, values, ".", color=style["color"], alpha=0.6, markersize=3.5, zorder=2.2)
            canvas.shift(axes, drawn, aside)
        if curve.single is not None:
            where, values = curve.single
            axes.plot(where / scale, values, color="0.65", linewidth=0.8, zorder=1.4)
        if curve.band is not None and curve.is_point:
            where, low, high = curve.band
            bar = axes.vlines(where / scale, low, high, color=style["color"], alpha=0.6, linewidth=1.4, zorder=1.9)
            canvas.shift(axes, [bar], aside)
        elif curve.band is not None:
            where, low, high = curve.band
            axes.fill_between(where / scale, low, high, color=style["color"], alpha=band, linewidth=0, zorder=1.3)
        if curve.main is not None:
            canvas.shift(axes, _draw_main(axes, curve.main, scale, style, number, many), aside)
    canvas.finish_axes(axes, _limited(axes, panel, curves), x, not panel.clock)


def _limited(axes: Axes, panel: Panel, curves: Sequence[Curve]) -> str:
    """Limit the panel to what is of interest. Returns its title, which says what it does not show."""
    title = panel.title
    bottom, top = axes.get_ylim()
    if panel.floor is not None and bottom < panel.floor < top:
        axes.set_ylim(bottom=panel.floor)
        title += f"; below {panel.floor:g} not shown"
    highest = highest_of(panel, curves)
    if highest is not None:
        axes.set_ylim(0, highest[0])
        title += f"; {highest[1]:,} point{' is' if highest[1] == 1 else 's are'} higher"
    apart = sum(curve.apart for curve in curves)
    if apart:
        whose = f"{apart} of {len(curves)} settings " if apart < len(curves) else ""
        place = "time" if panel.clock else "episode" if panel.kind == "episodes" else "frame"
        title += f"; {whose}without IQM, as seeds have no {place} in common"
    if sum(curve.is_point for curve in curves) > 1:
        title += "; single points are drawn beside each other"
    left_out = sum(curve.left_out for curve in curves)
    if left_out:
        title += f"; {left_out:,} not finite"
    return title


def _joined(lines: Sequence[Line]) -> Line:
    """Lines as one with gaps, which is drawn many times faster."""
    gap = np.array([np.nan])
    where, values = ([part for line in lines for part in (line[side], gap)] for side in (0, 1))
    return np.concatenate(where), np.concatenate(values)


def _draw_main(
    axes: Axes, line: Line, scale: float, style: dict[str, object], number: int, markers: bool
) -> list[Line2D]:
    where, values = line
    few = len(where) <= 2  # no line to speak of
    every = max(1, -(-len(where) // _MOST_MARKERS))
    look = style if markers or few else style | {"marker": ""}
    start = 0 if few else number * every // len(STYLES)  # not all at the same places
    return axes.plot(where / scale, values, linewidth=1.8, markevery=(start, every), zorder=2, **look)  # type: ignore[arg-type]


def _x_axis(panel: Panel, curves: Sequence[Curve]) -> tuple[str, float]:
    """The label, and how many of what the data counts make one of what the axis counts."""
    if not panel.clock:
        return ("episode" if panel.kind == "episodes" else "frames"), 1.0
    longest = max(float(where[-1]) for curve in curves for where, _ in curve.lines)
    for unit, seconds in (("hours", 3600.0), ("minutes", 60.0)):
        if longest >= 2 * seconds:
            return f"training time ({unit})", seconds
    return "training time (seconds)", 1.0
