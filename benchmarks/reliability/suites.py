"""Parts of the test suite that belong to the table: the catalogue of bad input, the corpus of attacks and more."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from benchmarks.children import ROOT
from benchmarks.reliability.report import Row

RUNS = 1
SUITES = {
    "bad input: tests of the 104 rows of the catalogue": ("tests/test_bad_input*.py", ()),
    "attacks: hostile run directories, checkpoints, sweeps; secrets": (
        "tests/attacks/test_*.py",
        ("-m", "slow or not slow"),
    ),
    "runs that earlier versions wrote": ("tests/test_golden.py", ()),
    "environments that hang": ("tests/test_watchdog.py", ()),
    "run.dir and resume=auto, killed and queued again": ("tests/test_place.py", ()),
}


def storm(runs: int, seed: int) -> list[Row]:
    """Run each suite once; neither size nor seed changes what is in it."""
    rows = []
    for what, (pattern, options) in SUITES.items():
        row = Row(what)
        with tempfile.TemporaryDirectory(prefix="rlrun-storm-") as place:
            report = Path(place, "report.xml")
            files = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                f"--junitxml={report}",
                *options,
                *files,
            ]
            subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
            for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 what pytest wrote a moment ago
                if case.find("skipped") is None:
                    broken = [part.get("message", "") for part in case if part.tag in ("failure", "error")]
                    row.add(*[f"{case.get('name')}: {line}" for line in broken])
        rows.append(row)
    return rows
