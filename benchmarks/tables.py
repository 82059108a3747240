"""Ratios and Markdown tables of stored results. Nothing is measured here."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cases import AT_ONCE, CASES, LONG_RUN, MEMORY, RATE, SEEDS, STARTUP, WALL, Target

Rounds = Sequence[Mapping[str, Mapping[str, Any]]]
"""What each side measured in each repetition: ``rounds[repeat][side][measure]``."""

NAMES = {"sb3": "SB3", "plain": "plain PyTorch", "torchrl": "TorchRL", "environment": "environment alone"}


def ratios(target: Target, rounds: Rounds) -> list[float]:
    """The ratio of each repetition: how many times better rlrun was, or the share of the peer's figure it needed."""
    name, result = target.measure.name, []
    for sides in rounds:
        ours, theirs = sides[target.ours][name], sides[target.peer][name]
        inverted = target.measure.advantage and not target.measure.more_is_better
        result.append(theirs / ours if inverted else ours / theirs)
    return result


def reached(target: Target, ratio: float) -> bool:
    """Whether the ratio is what the target asks for."""
    return ratio >= target.ratio if target.measure.advantage else ratio <= target.ratio


def median(rounds: Rounds, side: str, measure: str) -> float | None:
    """The median over repetitions of what a side measured; None where it does not measure that."""
    values = [sides[side].get(measure) for sides in rounds if side in sides]
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def targets_table(stored: Mapping[str, Any]) -> str:
    """One line for each target of each stored case, in the order of the cases."""
    lines = [
        "| case | measure | rlrun | against | | ratio: median (range) | target | |",
        "|---|---|---:|---|---:|---:|---:|---|",
    ]
    for name in (name for name in CASES if name in stored):
        lines += [_target_row(name, target, stored[name]) for target in CASES[name].targets]
    return "\n".join(lines)


def _target_row(name: str, target: Target, result: Mapping[str, Any]) -> str:
    rounds, measure = result["rounds"], target.measure
    values = ratios(target, rounds)
    middle = statistics.median(values)
    sign, bound = ("×", "≥") if measure.advantage else ("", "≤")
    ours, theirs = (_number(median(rounds, side, measure.name)) for side in (target.ours, target.peer))
    rival = NAMES[target.peer] + (" (extrapolated)" if result.get("extrapolated") else "")
    label = f"{name} of {SEEDS} agents" if target.ours == "population" else name
    mark = "pass" if reached(target, middle) else "**short**"
    return (
        f"| {label} | {measure.name.replace('_', ' ')}, {measure.unit} | {ours} | {rival} | {theirs} "
        f"| **{middle:.2f}**{sign} ({min(values):.2f} to {max(values):.2f}) | {bound} {target.ratio:g}{sign} | {mark} |"
    )


def sides_table(stored: Mapping[str, Any]) -> str:
    """One line for each side of each stored case: medians of all that was measured."""
    lines = [
        "| case | frames | repetitions | side | steps/s | of the environment's | first step after, s | whole command, s | peak MB |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for name in (name for name in CASES if name in stored):
        rounds, frames = stored[name]["rounds"], stored[name]["frames"]
        limit = median(rounds, "environment", RATE.name)
        for side in rounds[0]:
            rate, startup, wall, peak = (median(rounds, side, each.name) for each in (RATE, STARTUP, WALL, MEMORY))
            share = f"{100 * rate / limit:.0f} %" if limit and rate else ""
            lines.append(
                f"| {name} | {frames:,} | {len(rounds)} | {NAMES.get(side, side)} | {_number(rate)} | {share} "
                f"| {_number(startup)} | {_number(wall)} | {_number(peak)} |"
            )
    return "\n".join(lines)


def growth_table(stored: Mapping[str, Any]) -> str:
    """Time of an agent's step against the number of agents, and of a frame against the frames done."""
    lines = []
    agents = stored.get("agents", {})
    if agents:
        counts = sorted({int(count) for values in agents.values() for count in values})
        lines += [f"| µs per agent and step, A = | {' | '.join(map(str, counts))} |", "|---|" + "---:|" * len(counts)]
        for name, values in agents.items():
            cells = [_spread(values.get(str(count), [])) for count in counts]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    stretches = stored.get("frames", {})
    if stretches:
        lines += ["", f"| µs per frame, frames | {' | '.join(stretches)} |", "|---|" + "---:|" * len(stretches)]
        lines.append(f"| {LONG_RUN} | {' | '.join(_spread(values) for values in stretches.values())} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def document(speed: Mapping[str, Any], growth: Mapping[str, Any]) -> str:
    """All tables of what is stored, as Markdown."""
    sections = []
    if speed:
        dates = sorted(result["circumstances"]["date"] for result in speed.values())
        processors = sorted({result["circumstances"]["cpu"] for result in speed.values()})
        sections += [
            f"Measured {dates[0]} to {dates[-1]} UTC on {', '.join(processors)}; a sweep is {SEEDS} seeds on {AT_ONCE} cores.",
            "### Against the targets",
            targets_table(speed),
            "### What each side measured (medians)",
            sides_table(speed),
        ]
    if growth:
        sections += ["### Growth", growth_table(growth), "![growth](growth.png)"]
    return "\n\n".join(sections or ["Nothing is stored yet: `python -m benchmarks speed`."]) + "\n"
