"""How figures look: narrow and tall, so that a phone shows them; told apart in grey; numbers written out; nothing overlaps."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun.plain import printable
from rlrun.provenance import clean

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
WIDTH, PANEL_HEIGHT = 5.0, 1.9  # inches
_SMALLEST = 2.6  # inches of all panels
DPI = 200
_MARGIN = 0.12  # inches beside the texts above the panels
_TITLE, _TEXT, _TICK = 11.0, 8.5, 8.5  # points
_LEADING = 1.3  # height of a line for a letter of one
_GAP = 0.25  # between entries of the legend, in letters
_MOST_LINES = 4  # of one text
_STEP = 7.0  # points between points of the same place
_STEPS = (1, 2, 2.5, 5, 10)  # between ticks
_LONGEST_PLAIN, _SHORTEST_PLAIN = 1e15, 1e-6

STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#0072b2", "linestyle": "-", "marker": "o"},
    {"color": "#e69f00", "linestyle": (0, (6, 2)), "marker": "s"},
    {"color": "#000000", "linestyle": (0, (1, 1.3)), "marker": "^"},
    {"color": "#cc79a7", "linestyle": "-", "marker": "x"},
    {"color": "#009e73", "linestyle": (0, (6, 1.5, 1, 1.5)), "marker": "D"},
    {"color": "#56b4e9", "linestyle": (0, (3, 1.2)), "marker": "v"},
    {"color": "#d55e00", "linestyle": (0, (8, 1.5, 1, 1.5, 1, 1.5)), "marker": "P"},
)
"""Colours of Okabe and Ito, which the colour-blind can tell apart; in grey, dashes and markers do."""

_SETTINGS: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": _TEXT,
    "text.parse_math": False,  # a name with dollars is no formula
    "axes.unicode_minus": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.xmargin": 0.0,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
    "lines.markersize": 4.0,
    "svg.hashsalt": "rlrun",  # the same numbers give the same file
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Entry:
    """A line of the legend. ``style``: what matplotlib draws the line with."""

    text: str
    style: dict[str, Any]


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw here, with our settings whatever a matplotlibrc says."""
    logger = logging.getLogger("matplotlib")
    before = logger.level
    logger.setLevel(logging.ERROR)  # where its caches are, which it says while it is imported, is no news
    try:
        with _ignoring_settings_of_folders():
            import matplotlib

        with matplotlib.rc_context(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # of a name: a box stands for it
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_SETTINGS)
            yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _ignoring_settings_of_folders() -> Iterator[None]:
    """matplotlib reads ``matplotlibrc`` in the current folder, which may be anyone's, of any size, before all others."""
    exists = os.path.exists
    os.path.exists = lambda path: path != "matplotlibrc" and exists(path)
    try:
        yield
    finally:
        os.path.exists = exists


def new_figure(title: str, notes: Sequence[str], legend: Sequence[Entry], panels: int) -> tuple[Figure, list[Axes]]:
    """A figure with its texts above and a column of empty panels below. To be used within ``drawing``."""
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state
    from matplotlib.lines import Line2D

    wide = (WIDTH - 2 * _MARGIN) * 72
    texts = [(line, _TITLE, "bold") for line in wrapped(title, wide, _TITLE, bold=True)]
    texts += [(line, _TEXT, "normal") for note in notes for line in wrapped(note, wide, _TEXT)]
    labels = ["\n".join(wrapped(entry.text, wide - 6 * _TEXT, _TEXT)) for entry in legend]
    heights = [size * _LEADING / 72 for _, size, _ in texts]
    lines = sum(label.count("\n") + 1 for label in labels)
    header = _MARGIN + sum(heights) + (lines * _LEADING + len(labels) * _GAP) * _TEXT / 72
    height = header + max(panels * PANEL_HEIGHT, _SMALLEST)
    figure = Figure(figsize=(WIDTH, height))
    top = height - _MARGIN
    for (line, size, weight), high in zip(texts, heights, strict=True):
        figure.text(_MARGIN / WIDTH, top / height, line, size=size, weight=weight, va="top")
        top -= high
    if legend:
        handles = [Line2D([], [], **entry.style) for entry in legend]
        figure.legend(
            *(handles, labels),
            loc="upper left", bbox_to_anchor=(_MARGIN / WIDTH, top / height), frameon=False, fontsize=_TEXT,
            handlelength=4.5, labelspacing=_GAP, borderpad=0.2, borderaxespad=0.0,
        )  # fmt: skip
    axes = list(np.atleast_1d(figure.subplots(panels, 1)))
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - header / height), w_pad=0.06, h_pad=0.05)
    return figure, axes


def shift(axes: Axes, artists: Sequence[Artist], steps: int) -> None:
    """Move what is drawn aside, so that points of the same place can be told apart. What the axes hold stays the same."""
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure()
    if steps and figure is not None:
        aside = ScaledTranslation(steps * _STEP / 72, 0, figure.dpi_scale_trans)
        for artist in artists:
            artist.set_transform(axes.transData + aside)


def finish_axes(axes: Axes, title: str, x: str, whole: bool) -> None:
    """Title, limits and ticks of a panel whose data is drawn. ``whole``: only whole numbers along x."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title("\n".join(wrapped(title, (WIDTH - 1) * 72, 9.5)))
    axes.set_xlabel(x)
    right = axes.dataLim.x1 if math.isfinite(axes.dataLim.x1) and axes.dataLim.x1 > 0 else 1.0
    axes.set_xlim(0, right * 1.02)
    longest = max(map(len, plain_numbers([0, right])))
    bins = max(1, min(5, int(270 / (longest * 5.6 + 12))))  # as many as fit beside each other
    for axis, locator in (
        (axes.xaxis, MaxNLocator(bins, steps=_STEPS, integer=whole)),
        (axes.yaxis, MaxNLocator(5, steps=_STEPS)),
    ):
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
        axis.set_ticks(ticks, plain_numbers(ticks))
    axes.tick_params(labelsize=_TICK)


def plain_numbers(values: Sequence[float]) -> list[str]:
    """Numbers of one axis with as many digits as tell them apart: ``20,000``, ``0.25``; beyond what can be read, ``2e-09``."""
    largest = max(map(abs, values), default=0.0)
    gaps = [after - before for before, after in itertools.pairwise(values) if after > before]
    step = min(gaps, default=largest or 1.0)
    if largest >= _LONGEST_PLAIN or step < _SHORTEST_PLAIN:
        return [f"{value:.6g}" for value in values]
    digits = next((d for d in range(8) if all(abs(round(v, d) - v) <= step * 1e-3 for v in values)), 8)
    return [f"{value + 0.0:,.{digits}f}" for value in (round(value, digits) for value in values)]


def wrapped(text: str, width: float, size: float, bold: bool = False) -> list[str]:
    """``text`` in lines of at most ``width`` points, broken at spaces where there are any; what is too long ends in ``...``."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")

    def fits(line: str) -> bool:
        return bool(text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] <= width)

    lines: list[str] = []
    rest = printable(clean(text))[:600]
    while rest and len(lines) < _MOST_LINES:
        length = len(rest)
        if not fits(rest):
            length = next(
                count for count in range(1, len(rest) + 1) if count == len(rest) or not fits(rest[: count + 1])
            )
            space = rest.rfind(" ", 1, length + 1)
            length = space if space > length // 2 else length
        lines.append(rest[:length].strip())
        rest = rest[length:].strip()
    if rest:
        lines[-1] = f"{lines[-1][:-3]}..."
    return lines or [""]


def pictures(figure: Figure, formats: Sequence[str]) -> dict[str, bytes]:
    """The figure in each of FORMATS that is wanted, the same bytes for the same numbers."""
    figure.set_dpi(DPI)
    figure.draw_without_rendering()  # the layout, once for all formats
    figure.set_layout_engine("none")
    bare = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    files = {}
    for kind in formats:
        picture = io.BytesIO()
        figure.savefig(picture, format=kind, dpi=DPI, metadata=bare[kind])
        files[kind] = picture.getvalue()
    return files
