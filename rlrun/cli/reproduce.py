"""``rlrun reproduce RUN``: train a run again from what it stores, and hold the rows of both against each other."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlrun.cli.arguments import Parser, add_outputs, take_imports
from rlrun.cli.history import Phase, phases_of
from rlrun.cli.output import counted, deliver_json, deliver_line, say, shown_path, silence
from rlrun.cli.secrets import typed_again
from rlrun.config import RunConfig, from_mapping, to_mapping
from rlrun.errors import DIFFERENT, SIGNAL_BASE, LockedError, ResumeError, UnavailableError, UsageError
from rlrun.finding import find_one
from rlrun.interrupts import Interrupts
from rlrun.locks import is_locked
from rlrun.manifest import dependence, texts
from rlrun.plain import printable
from rlrun.reports.equality import Comparison, changes, compare, last_frame
from rlrun.run import Run
from rlrun.sweeps.jobs import Job, check_device, check_jobs
from rlrun.sweeps.runner import create_run, train_runs
from rlrun.view import Outcome

_EPILOG = f"""examples:
  rlrun reproduce latest
  rlrun reproduce 2026-11-24/0930 --json

exit code: 0 equal, {DIFFERENT} not equal"""


def main(arguments: list[str]) -> int:
    """Reproduce a run."""
    options = _parser().parse_intermixed_args(take_imports(arguments))
    run = Run.open(find_one(options.run, options.outputs))
    config = _config_of(run, options.secrets, options.outputs)
    last, whole = _extent(run)
    phases, notes = phases_of(run, config, last)
    phases, fallback = _on_this_machine(run, phases)
    notes = [*notes, *fallback, *_doubts(run)]
    if not options.json:
        for note in notes:
            say(f"note: {printable(note)}")
    outcome = _train(run, phases, options.quiet or options.json)
    if outcome.signal is not None:
        say(f"stopped before the end: nothing is compared; what there is: {shown_path(outcome.run.directory)}")
        return SIGNAL_BASE + outcome.signal
    comparison = compare(run.directory, outcome.run.directory, whole)
    failure = _unexpected(run, outcome)
    equal = not comparison.differences and failure is None
    report = {
        "equal": equal,
        "run": str(run.directory),
        "reproduction": str(outcome.run.directory),
        "frames": last,
        "lines": comparison.lines,
        "differences": [dataclasses.asdict(difference) for difference in comparison.differences],
        "failure": failure,
        "both_failed": None if failure else _shared_failure(outcome),
        "changed": changes(run.manifest, outcome.run.manifest),
        "notes": notes,
    }
    try:
        if options.json:
            deliver_json(report)
        else:
            _say(report, comparison)
    except BrokenPipeError:  # the exit code is an answer, too
        silence(sys.stdout)
    return 0 if equal else DIFFERENT


def _parser() -> Parser:
    parser = Parser(
        "reproduce",
        "Train a run again from its stored settings, in a new directory, and say whether its metrics and episodes\n"
        "are the same bit for bit; if not, which row differs first, and what has changed since.",
        _EPILOG,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="a run's directory, the beginning of its name, or latest")
    add("secrets", nargs="*", metavar="KEY=VALUE", help="a setting not stored as it is secret; env.step_timeout=N")
    add("-q", "--quiet", action="store_true", help="print the result and errors only")
    add("--json", action="store_true", help="print one JSON object")
    add_outputs(parser)
    return parser


def _config_of(run: Run, secrets: Sequence[str], outputs: Path) -> RunConfig:
    """The run's config with its hidden settings as they were typed; where runs go is for whoever types, not for the file.

    Raises:
        ResumeError: a hidden setting is missing.
        UsageError: another one is typed.
    """
    command = f"rlrun reproduce {shown_path(run.directory)}"
    config = typed_again(run.config, secrets, command, "reproduce trains by the run's own settings")
    return dataclasses.replace(config, outputs=str(outputs))


def _extent(run: Run) -> tuple[int, bool]:
    """The frame up to which a run is to be repeated, and whether it had come to its end there.

    Raises:
        LockedError: it is being trained.
        ResumeError: it has nothing to be compared.
    """
    if is_locked(run.directory):
        raise LockedError(f"{shown_path(run.directory)} is in use; wait for its end")
    finished, frames = run.manifest["status"] == "finished", last_frame(run.directory)
    if not frames:
        raise ResumeError(f"{shown_path(run.directory)} has no row of metrics and no episode to compare")
    return (run.manifest["frames"] if finished else max(frames, run.manifest["frames"])), finished


def _on_this_machine(run: Run, phases: Sequence[Phase]) -> tuple[list[Phase], list[str]]:
    """The phases on the device that the run was trained on, or on the CPU if that is not here; then with a note."""
    config = phases[0].config
    wanted = run.manifest["device"] if config.device == "auto" else config.device
    notes = []
    try:
        check_device(_on(config, wanted))
    except UnavailableError as error:
        notes, wanted = [f"{error}; trained on the CPU instead"], "cpu"
    except UsageError as error:
        raise ResumeError(f"{shown_path(run.directory / 'run.json')}: {error}") from error
    return [dataclasses.replace(phase, config=_on(phase.config, wanted)) for phase in phases], notes


def _on(config: RunConfig, device: str) -> RunConfig:
    return from_mapping(to_mapping(config) | {"device": device})


def _doubts(run: Run) -> list[str]:
    """Why a repetition may differ, as the run itself tells."""
    doubts = []
    if run.manifest.get("exact") is False:
        reasons = "; ".join(texts(run.manifest.get("inexact_because")))
        doubts.append(f"the run says that it is not exact: {reasons or 'no reason given'}")
    population = run.manifest.get("population")
    size = population.get("size") if isinstance(population, dict) else 1
    reason = dependence(run.manifest)
    if reason and size != 1:
        doubts.append(f"it was trained in a population of {size}, and is repeated alone: {reason}")
    return doubts


def _train(run: Run, phases: Sequence[Phase], quiet: bool) -> Outcome:
    """Train through all phases, as one new run. Raises RlrunError: it could not be started."""
    from rlrun.cli.live import choose_view
    from rlrun.cli.resume import extend

    typed = tuple(texts(run.manifest.get("overrides")))
    job = Job(phases[0].config, typed, *(_text(run.manifest.get(key)) for key in ("tuned", "experiment")))
    try:
        check_jobs([job])
        with Interrupts() as interrupts:
            repeated = create_run(job)
            repeated.update(reproduces=run.manifest["id"])
            for number, phase in enumerate(phases):
                if number:
                    with repeated.lock():
                        extend(repeated, phase.config)
                view = choose_view(quiet)
                (outcome,) = train_runs([repeated], view, interrupts, resume=number > 0, until=phase.until)
                if outcome.status != "finished":
                    break
    except UsageError as error:  # nothing of it was typed: it is what the run's config asks for
        raise ResumeError(f"{shown_path(run.directory / 'config.yaml')}: {error}") from error
    return outcome


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _unexpected(run: Run, outcome: Outcome) -> str | None:
    """Why the repetition failed where the run did not, the other way round, or otherwise than it; None if both ended alike."""
    failed = run.manifest["status"] == "failed"
    if outcome.status != "failed":
        return f"the run failed, the reproduction did not: {run.manifest.get('failure')}" if failed else None
    if not failed:
        return f"the reproduction failed: {outcome.error}"
    then, now = _end(run), _end(outcome.run)
    if without_addresses(then) == without_addresses(now):
        return None
    return f"both failed, but differently: the run {then}; the reproduction {now}"


def _shared_failure(outcome: Outcome) -> str | None:
    """Where and of what both ended; None if they did not fail."""
    return _end(outcome.run) if outcome.status == "failed" else None


def _end(run: Run) -> str:
    return f"at frame {run.manifest['frames']:,}: {run.manifest.get('failure')}"


def without_addresses(text: str) -> str:
    """An object is shown by its place in memory, another one each time."""
    return re.sub("0x[0-9a-f]+", "0x", text)


def _say(report: dict[str, Any], comparison: Comparison) -> None:
    deliver_line(f"reproduction: {shown_path(Path(report['reproduction']))}")
    lines = " and ".join(f"{counted(count, 'line')} of {name}" for name, count in comparison.lines.items())
    if report["equal"]:
        deliver_line(f"equal bit for bit: {lines}, up to frame {report['frames']:,}")
        if report["both_failed"]:
            deliver_line(f"both failed in the same way, {printable(report['both_failed'])}")
    else:
        deliver_line("not equal" + (f": {printable(report['failure'])}" if report["failure"] else ""))
    for difference in comparison.differences:
        frame = "" if difference.frames is None else f" (frame {difference.frames:,})"
        deliver_line(f"  {difference.file}, line {difference.line}{frame}: {difference.what}")
    if report["changed"]:
        deliver_line("changed since:")
        for line in report["changed"]:
            deliver_line(f"  {printable(line)}")
    elif not report["equal"]:
        deliver_line("nothing that run.json holds has changed since: versions, processor, libraries' code, device, git")
