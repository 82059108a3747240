"""A trained policy as a file that other programs read, held against the original after the target runtime has loaded it.

Shapes: B batch, O observation, U values, K action components.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlrun import __version__
from rlrun.config import to_mapping
from rlrun.errors import RlrunError, StorageError, UnavailableError
from rlrun.export_formats import NEEDED, READERS, WRITERS, Play, quiet_exporters
from rlrun.plain import printable, reason_of
from rlrun.policy import TrainedPolicy
from rlrun.provenance import clean
from rlrun.rollout import Environments
from rlrun.seeding import Stream, derive, generator
from rlrun.watchdog import watching

if TYPE_CHECKING:
    from rlrun.torch_policy import Form, GreedyPolicy

Array = np.ndarray[Any, Any]
OBSERVATIONS = 1000
TOLERANCE = 1e-5
"""Largest difference of an action, or of values that tie, in units of the largest value (or of 1, if that is more)."""
_ROUNDINGS = 10.0
"""How many times the network's own rounding may be added to that: large raw observations leave it fewer digits."""
_MOST_TIES = 0.01
"""Share of the choices that may differ: if more seem to tie, it is the values that are wrong."""
_ENVS = 5


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how it was checked."""

    format: str
    path: Path
    bytes: int
    runtime: str
    observations: int
    ties: int
    """Choices that differ because both options are worth the same within the tolerance."""
    difference: float
    """Largest absolute difference of an action's numbers; 0 for choices."""


class ExportError(RlrunError):
    """The file plays otherwise than the policy it was made from: a bug of ours, or of who wrote or read the file."""


def require_packages(format: str) -> None:
    """Raises UnavailableError if the format needs a package that is not installed."""
    missing = [name for name in NEEDED[format] if importlib.util.find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UnavailableError(
            f"--format {format} needs {', '.join(missing)}, which {verb} not installed; pip install 'rlrun[{format}]'"
        )


def export(policy: TrainedPolicy, format: str, path: Path, observations: Array) -> Exported:
    """Write the policy to ``path`` once it has been loaded and gave the original's actions for ``observations`` [B, O].

    Until then the file is in a folder of its own that nobody else can write to; what was at ``path`` stays if anything fails.

    Raises:
        UnavailableError: a package is missing. StorageError: it can't be written. ExportError: it plays otherwise.
    """
    require_packages(format)
    if os.path.lexists(path) and not path.is_file():
        raise StorageError(f"can't write {printable(path)}: it is no regular file")
    module = policy.to_torch()
    values, allowed = expected_values(module, observations)
    described = description(policy, module)
    try:
        with tempfile.TemporaryDirectory(
            prefix=".tmp-export-", dir=path.parent, ignore_cleanup_errors=True
        ) as workshop:
            file = Path(workshop, path.name)
            with quiet_exporters():
                file.write_bytes(WRITERS[format](module, described))
                play, runtime = READERS[format](file.read_bytes())
            ties, difference = compare(policy(observations), values, allowed, module.form, play, observations)
            file.chmod(0o600)
            size = file.stat().st_size
            os.replace(file, path)
    except OSError as error:
        raise StorageError(f"can't write {printable(path)}: {reason_of(error)}") from error
    return Exported(format, path, size, runtime, len(observations), ties, difference)


def description(policy: TrainedPolicy, module: GreedyPolicy) -> dict[str, Any]:
    """What the file holds, as plain data: where it comes from, what goes in and what comes out."""
    from rlrun.torch_policy import form_to_plain

    config, form = policy.config, module.form
    plain = {
        "format": 1,
        "rlrun": __version__,
        "run": printable(policy.directory.name),  # it need not be UTF-8
        "algo": config.algo.name,
        "env": config.env.id,
        "env_kwargs": clean(to_mapping(config))["env"]["kwargs"],  # without what is secret by its name
        "frame_skip": config.env.frame_skip,
        "frame_stack": config.env.frame_stack,
        "seed": config.seed,
        "checkpoint": policy.checkpoint,
        "frames": policy.frames,
        "observation_space": str(policy.observation_space),
        "action_space": str(policy.action_space),
        "input": {"name": "observation", "dtype": "float32", "shape": ["batch", form.inputs]},
        "outputs": ["action", form.values],
        "policy": form_to_plain(form),
    }
    described: dict[str, Any] = clean(plain)
    return described


def observations_for(policy: TrainedPolicy, seed: int) -> Array:
    """Raw observations float32 [``OBSERVATIONS``, O]: half of them met while playing, half drawn around those.

    Raises:
        EnvironmentFailure: the environment failed.
    """
    half = OBSERVATIONS // 2
    config, met = policy.config.env, []
    with watching(config.id, config.step_timeout):
        seeds, whose = [derive(seed, Stream.EVALUATION)], ["the episodes that check the export"]
        environments = Environments(config, _ENVS, seeds, exact=False, whose=whose)
        try:
            for _ in range(half // _ENVS):
                met.append(environments.observation[0].copy())
                environments.step(policy.population.act(environments.observation))
        finally:
            environments.close()
    if environments.failures:
        raise environments.failures[0]
    played = np.concatenate(met)
    random, spread = generator(seed, Stream.EVALUATION), 3 * played.std(0) + 0.1
    drawn = played.mean(0) + spread * random.standard_normal((OBSERVATIONS - half, played.shape[1]))
    return np.concatenate([played, drawn.astype(np.float32)])


def expected_values(module: GreedyPolicy, observations: Array) -> tuple[Array, Array]:
    """The values that the module gives [B, U or K], and how far others may be from each observation's [B, 1]."""
    import torch

    with torch.no_grad():
        _, values = module(torch.from_numpy(observations))
        _, exact = copy.deepcopy(module).double()(torch.from_numpy(observations).double())
    rounding = (exact - values).abs().amax(-1, keepdim=True).numpy()
    size = np.abs(values.numpy()).max(-1, keepdims=True)
    return values.numpy(), TOLERANCE * np.maximum(1.0, size) + _ROUNDINGS * rounding


def compare(
    wanted: Array, values: Array, allowed: Array, form: Form, play: Play, observations: Array
) -> tuple[int, float]:
    """Hold what ``play`` does with one observation alone, and with all others together, against what is ``wanted``.

    ``wanted``: the policy's actions [B, ...]; ``values``, ``allowed``: as ``expected_values`` gives them.

    Returns:
        The number of choices that differ between values that tie, and the largest difference of an action's numbers.

    Raises:
        ExportError: it does something else.
    """
    played = [play(part) for part in (observations[:1], observations[1:])]
    action, found = (np.concatenate(parts) for parts in zip(*played, strict=True))
    if action.shape != wanted.shape or action.dtype.kind != wanted.dtype.kind or found.shape != values.shape:
        raise ExportError(f"the file gives actions {action.dtype} {action.shape}, not {wanted.dtype} {wanted.shape}")
    action, wanted = (actions.reshape(len(wanted), -1) for actions in (action, wanted))
    apart = np.abs(action - wanted.astype(np.float64))
    ties, difference = 0, float(apart.max())
    if form.choices:
        differs = apart != 0
        apart, difference = np.where(differs, _gap(form, values, action, wanted), 0), 0.0
        ties = int(differs.sum())
    # What is not a number is wrong, too.
    wrong = ~((apart <= allowed).all(-1) & (np.abs(found - values) <= allowed).all(-1))
    if wrong.any() or ties > _MOST_TIES * wanted.size:
        number = int(wrong.sum()) or ties
        raise ExportError(f"the file plays otherwise than the policy on {number} of {len(wanted)} observations")
    return ties, difference


def _gap(form: Form, values: Array, action: Array, wanted: Array) -> Array:
    """How much less the choices ``wanted`` are worth than those taken, in size [B, choices]; infinite for one that does not exist."""
    gaps = []
    ends = np.cumsum(form.choices)
    for place, (options, end) in enumerate(zip(form.choices, ends, strict=True)):
        worth = values[:, end - options : end].astype(np.float64)
        taken, other = (actions[:, place] - form.start[place] for actions in (action, wanted))
        rows, exists = np.arange(len(worth)), (taken >= 0) & (taken < options)
        gap = np.abs(worth[rows, np.where(exists, taken, 0)] - worth[rows, other])
        gaps.append(np.where(exists, gap, np.inf))
    return np.stack(gaps, -1)
