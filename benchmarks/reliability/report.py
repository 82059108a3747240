"""Which storms there are, the rows they give, and the table of what is stored."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks import stored
from benchmarks.children import ROOT

NAMES = (
    "kills",
    "calls",
    "syscalls",
    "corruption",
    "environments",
    "ablation",
    "signals",
    "faults",
    "interference",
    "soak",
    "cost",
    "suites",
    "fuzz",
)
DOCUMENT = ROOT / "docs" / "reliability.md"
MOST_FAILURES = 20  # of a row, printed and stored


@dataclass
class Row:
    """What was tried, how often, and how often it came out as promised. ``failures``: one line for each that did not."""

    what: str
    tried: int = 0
    failures: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def good(self) -> int:
        return self.tried - len(self.failures)

    def add(self, *problems: str) -> None:
        """Count one try; ``problems``: what was wrong with it, if anything was."""
        self.tried += 1
        if problems:
            self.failures.append("; ".join(" ".join(problem.split()) for problem in problems))


def run(names: Sequence[str], runs: int | None, seed: int) -> bool:
    """Run storms, print their rows and store them; true if everything came out as promised."""
    # A shell that starts this in the background ignores them, and what the storms start would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    well = True
    for name in names:
        module = importlib.import_module(f"benchmarks.reliability.{name}")
        size = runs or module.RUNS
        rows: list[Row] = module.storm(size, seed)
        command = f"python -m benchmarks reliability {name} --runs {size} --seed {seed}"
        result = {"command": command, "rows": [_stored(row) for row in rows], "circumstances": stored.circumstances()}
        everything = stored.merge("reliability", name, result)
        stored.replace(stored.RESULTS / "reliability.md", document(everything))
        stored.replace(DOCUMENT, with_table(DOCUMENT.read_text(encoding="utf-8"), document(everything)))
        print(table({name: result}), flush=True)
        for row in rows:
            for failure in row.failures[:MOST_FAILURES]:
                print(f"  {row.what}: {failure}", flush=True)
        well = well and not any(row.failures for row in rows)
    return well


def _stored(row: Row) -> dict[str, Any]:
    return asdict(row) | {"good": row.good, "failures": row.failures[:MOST_FAILURES]}


def table(results: Mapping[str, Any]) -> str:
    """One line for each row of each storm, in the order of the storms."""
    lines = ["| what | tried | good | command |", "|---|---:|---:|---|"]
    for name in sorted(results, key=_place):
        for row in results[name]["rows"]:
            what = f"{row['what']} ({row['note']})" if row["note"] else row["what"]
            good = f"{row['good']:,}" if row["good"] == row["tried"] else f"**{row['good']:,}**"
            lines.append(f"| {what} | {row['tried']:,} | {good} | `{results[name]['command']}` |")
    return "\n".join(lines)


def document(results: Mapping[str, Any]) -> str:
    """All that is stored, as Markdown."""
    dates = sorted(result["circumstances"]["date"] for result in results.values())
    processors = sorted({result["circumstances"]["cpu"] for result in results.values()})
    head = f"Tried {dates[0]} to {dates[-1]} UTC on {', '.join(processors)}. Good: came out as promised."
    failures = [
        f"- {name}, {row['what']}: {failure}"
        for name in sorted(results, key=_place)
        for row in results[name]["rows"]
        for failure in row["failures"]
    ]
    return "\n\n".join([head, table(results), *(["\n".join(failures)] if failures else [])]) + "\n"


def with_table(text: str, measured: str) -> str:
    """The document with what was measured between its marks."""
    beginning, ending = "<!-- table -->\n", "<!-- end of table -->"
    before, _, rest = text.partition(beginning)
    return f"{before}{beginning}\n{measured}\n{ending}{rest.partition(ending)[2]}"


def _place(name: str) -> int:
    return NAMES.index(name) if name in NAMES else len(NAMES)
