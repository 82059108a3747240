"""``rlrun resume RUN``: continue a run from its newest checkpoint, or extend it.

A run directory may come from anyone, so its config is data: it and the settings typed here never reach Hydra.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlrun import envstate, provenance
from rlrun.cli.arguments import Parser, add_outputs
from rlrun.cli.output import say, shown_path
from rlrun.config import PPOConfig, RunConfig, from_mapping, to_mapping
from rlrun.config.settings import nearest
from rlrun.errors import ResumeError, UsageError
from rlrun.plain import parse_yaml, to_yaml, write_atomically
from rlrun.run import Run, find

_MAY_CHANGE = ("total_frames", "stop.", "evaluation.", "checkpoint.", "logging.")


def main(arguments: list[str]) -> int:
    """Continue a run."""
    options = _parser().parse_intermixed_args(arguments)
    for override in options.overrides:
        if "=" not in override:
            raise UsageError(f"'{override}' has no value; write {override}=VALUE")
    run = Run.open(find(options.run, options.outputs))
    config = _changed(run, options.overrides)
    extended = config != run.config and config.total_frames > run.manifest["frames"]
    if run.manifest["status"] == "finished" and not extended:
        say(_already_complete(run))
        return 0
    if options.require_exact:
        _require_exact(run)
    with run.lock():  # only for as long as we write; another process may be training this run
        if config != run.config:
            _extend(run, config, options.quiet)

    from rlrun.cli.live import choose_view
    from rlrun.cli.results import finish_run
    from rlrun.sweeps import train_run

    outcome = train_run(run, choose_view(options.quiet), resume=True)
    return finish_run(outcome.run, outcome.status, outcome.error, outcome.signal, options.quiet)


def _parser() -> Parser:
    parser = Parser(
        "resume",
        "Continue a run from its newest checkpoint.",
        "total_frames may grow; stop.*, evaluation.*, checkpoint.* and logging.* may change; nothing else.",
    )
    parser.add_argument("run", metavar="RUN", help="a run's directory, the beginning of its name, or latest")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="total_frames=200000, stop.return=475, ...")
    parser.add_argument("--require-exact", action="store_true", help="refuse if the run can't continue bit for bit")
    parser.add_argument("-q", "--quiet", action="store_true", help="print the run's directory and errors only")
    add_outputs(parser)
    return parser


def _changed(run: Run, overrides: Sequence[str]) -> RunConfig:
    """The run's config with what was typed. Raises UsageError, or ResumeError for what may not change."""
    values = to_mapping(run.config)
    known = _leaves(values)
    forbidden = []
    for override in overrides:
        key, _, text = override.partition("=")
        if key not in known:
            raise UsageError(f"unknown key '{key}'{nearest(key, known)}")
        value = _scalar(key, text)
        if value != known[key] and not key.startswith(_MAY_CHANGE):
            forbidden.append(f"{key}: {known[key]} -> {text} can't change on resume; start a new run for it")
        *parents, last = key.split(".")
        target = values
        for parent in parents:
            target = target[parent]
        target[last] = value
    if forbidden:
        raise ResumeError("\n".join(forbidden))
    config = from_mapping(values)
    if config.total_frames < run.config.total_frames:
        raise ResumeError(f"total_frames: {run.config.total_frames} -> {config.total_frames} is less; it can only grow")
    return config


def _leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return leaves


def _scalar(key: str, text: str) -> Any:
    """A value as YAML has it; numbers also in the form ``1e6``, which YAML 1.1 takes for text."""
    try:
        return float(text) if "e" in text.lower() and text[:1].isdigit() else parse_yaml(text.encode())
    except ValueError as error:
        raise UsageError(f"can't parse {key}={text}: {error}") from error


def _already_complete(run: Run) -> str:
    frames, total = run.manifest["frames"], run.config.total_frames
    if frames < total:
        return f"already complete (its stop rule ended it at {frames}/{total} frames); change stop.* to go on"
    where = shown_path(run.directory)
    return f"already complete ({frames}/{total} frames); extend with: rlrun resume {where} total_frames={2 * total}"


def _require_exact(run: Run) -> None:
    """Raises ResumeError with every reason why the continued run may differ from one that was never stopped."""
    now = {"versions": provenance.versions(), "processor": provenance.machine()["processor"]}
    then = {"versions": run.manifest.get("versions"), "processor": (run.manifest.get("machine") or {}).get("processor")}
    reasons = [f"other {name} than it began with" for name in now if now[name] != then[name]]
    environment = envstate.exactness(run.config.env, run.config.seed)
    reasons += [environment] if environment else []
    if reasons:
        raise ResumeError(f"{shown_path(run.directory)} can't be resumed exactly: {'; '.join(reasons)}")


def _extend(run: Run, config: RunConfig, quiet: bool) -> None:
    """Make ``config`` the run's, on disk as well. Raises StorageError."""
    algo = config.algo
    schedules = {"algo.learning_rate_schedule": algo.learning_rate_schedule}
    if isinstance(algo, PPOConfig):
        schedules["algo.clip_range_schedule"] = algo.clip_range_schedule
    moving = [f"{key}={value}" for key, value in schedules.items() if value != "constant"]
    if moving and config.total_frames != run.config.total_frames and not quiet:
        say(f"note: {', '.join(moving)} now runs to the new end; a run planned to end there would differ")
    write_atomically(run.directory / "config.yaml", to_yaml(provenance.clean(to_mapping(config))))
    run.config = config
    run.update(total_frames=config.total_frames)
