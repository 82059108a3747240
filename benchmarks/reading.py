"""How long commands take that read runs: over a thousand run directories, and a report of a hundred runs in a browser."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import stored
from benchmarks.children import child, module

RUNS, REPORTED = 1000, 100
SETTINGS = ("algo.learning_rate=1e-4,1e-3", "algo.gamma=0.9,0.99")
SHORT = ("-q", "-m", "env=cartpole", "total_frames=15000", "evaluation.every_frames=1500", "plot.figures=none")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def run(repeats: int) -> None:
    """Measure, print and store under ``reading``. Each figure is the median of ``repeats``."""
    with tempfile.TemporaryDirectory(prefix="rlrun-reading-") as place:
        outputs = Path(place, "outputs")
        child(module("rlrun", *SHORT, *SETTINGS, f"outputs={outputs}"))
        (sweep,) = (outputs / "sweeps").iterdir()
        multiply(sweep, RUNS)
        name = next(sweep.glob("*_s500*")).name
        commands = {
            f"ls, {RUNS} runs in a sweep": ("ls",),
            f"ls --all, {RUNS} runs": ("ls", "--all"),
            f"show, one of {RUNS} runs": ("show", name),
            f"compare, {RUNS} runs": ("compare", sweep.name),
        }
        seconds = {
            what: [child(module("rlrun", *words, "--outputs", outputs)).wall_seconds for _ in range(repeats)]
            for what, words in commands.items()
        }
        smaller = outputs / "sweeps" / "smaller"
        shutil.copytree(sweep, smaller)
        for extra in sorted(path.parent for path in smaller.glob("*/run.json"))[REPORTED:]:
            shutil.rmtree(extra)
        page = Path(place, "report.html")
        report = child(module("rlrun", "report", "smaller", "--outputs", outputs, "-o", page))
        seconds[f"report, {REPORTED} runs, to write it"] = [report.wall_seconds]
        seconds[f"report, {REPORTED} runs, to open it"] = opened(page, repeats)
        size = page.stat().st_size
    result = {
        "command": f"python -m benchmarks reading --repeats {repeats}",
        "seconds": {what: statistics.median(values) for what, values in seconds.items() if values},
        "ranges": {what: [min(values), max(values)] for what, values in seconds.items() if values},
        "report_bytes": size,
        "circumstances": stored.circumstances(),
    }
    stored.merge("reading", "reading", result)
    for what, values in seconds.items():
        said = f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})" if values else "no browser"
        print(f"{what:<34} {said}")
    print(f"{'report, size':<34} {size / 1e6:.1f} MB")


def multiply(sweep: Path, count: int) -> None:
    """Copy the runs of a sweep under other seeds until there are ``count``."""
    originals = sorted(path.parent for path in sweep.glob("*/run.json"))
    for number in range(len(originals), count):
        original = originals[number % len(originals)]
        copy = sweep / re.sub(r"_s0.*", f"_s{number}", original.name)
        shutil.copytree(original, copy)
        manifest = json.loads((copy / "run.json").read_text())
        manifest |= {"seed": number, "job": number + 1, "jobs": count}
        (copy / "run.json").write_text(json.dumps(manifest, indent=2))
        config = (copy / "config.yaml").read_text()
        (copy / "config.yaml").write_text(re.sub("^seed: 0$", f"seed: {number}", config, flags=re.MULTILINE))


def opened(page: Path, repeats: int) -> list[float]:
    """Seconds until a headless Chromium has loaded a page, in a new tab each; nothing without one."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        return []
    from playwright.sync_api import sync_playwright

    seconds = []
    with sync_playwright() as driver, contextlib.closing(driver.chromium.launch(executable_path=browser)) as chromium:
        for _ in range(repeats):
            tab = chromium.new_page()
            began = time.monotonic()
            tab.goto(page.as_uri())
            tab.wait_for_selector(".main-svg")
            seconds.append(time.monotonic() - began)
            tab.close()
    return seconds
