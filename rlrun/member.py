"""One run of a population, beside its slice of the trainer's state: its files, its counts, its best."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlrun.arrays import real, whole
from rlrun.checkpoint import bytes_of_arrays, config_of
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.checkpoint_names import BEST_FILE, frames_in, step_file
from rlrun.config import RunConfig, to_mapping
from rlrun.config.resuming import forbidden_changes, inexact_changes, told_changes
from rlrun.errors import EnvironmentFailure, LockedError, LostFileError, ResumeError, RlrunError, StorageError
from rlrun.hardware import choose_device
from rlrun.manifest import SAME_BITS, dependence, other_population, texts
from rlrun.metrics import Recorder
from rlrun.plain import printable
from rlrun.provenance import clean, differences
from rlrun.rollout import Episode
from rlrun.run import Run


def population_note(config: RunConfig, size: int, inexact: str | None) -> str | None:
    """Why a run trained in a population of ``size`` may have other bits than alone; None if it has the same.

    ``inexact``: why its environments' state can't be captured, if that is so.
    """
    if size == 1:
        return None
    if choose_device(config.device, max(config.network.hidden)) != "cpu":
        return "on CUDA bits depend on the size of the population"
    if config.hardware.kernels == "plain" or config.network.layer_norm:
        return "on the plain PyTorch path bits may depend on the size of the population"
    if inexact:  # whatever is hidden may be one for all
        return f"the environments may share what is hidden, and bits then depend on the population ({inexact})"
    return None


def take(runs: Sequence[Run], stack: contextlib.ExitStack, anew: bool) -> dict[int, RlrunError]:
    """Lock the runs into ``stack``; returns why some are not to be trained. Raises RlrunError: there is only that one."""
    refused: dict[int, RlrunError] = {}
    for agent, run in enumerate(runs):
        try:
            stack.enter_context(run.lock())
            if anew and run.has_checkpoint():
                raise ResumeError(f"{printable(run.directory.name)} has checkpoints; to start over would lose them")
        except (LockedError, ResumeError, StorageError) as error:
            if len(runs) == 1:
                raise
            refused[agent] = error
    return refused


def require_weights(folders: Sequence[Path], size: int) -> None:
    """Raises ResumeError if no newest checkpoint can hold ``size`` bytes of weights: before such a network is made."""
    held = []
    for folder in folders:
        with contextlib.suppress(ResumeError):  # what is missing or damaged is told when it is read
            held.append(bytes_of_arrays(CheckpointFolder(folder, 1).resolve("last")))
    if held and max(held) < size:
        raise ResumeError(
            f"the checkpoint is not of this config: its arrays take {max(held)} bytes, and network.hidden asks for {size} "
            "of weights alone; put config.yaml back as it was"
        )


def with_advice(run: Run, error: RlrunError, has_saved: bool = False) -> RlrunError:
    """The error that ended the run, with the checkpoint that is left and what to do, as far as that helps."""
    where = shlex.quote(printable(run.directory))
    if not run.directory.is_dir():
        return StorageError(f"the run directory {where} has vanished while it was trained")
    if type(error) is RlrunError:
        return error
    good = None
    with contextlib.suppress(ResumeError):
        good = CheckpointFolder(run.checkpoints, run.config.checkpoint.keep).last_good()
    if good is None:
        begun = has_saved or run.manifest["resumed"]
        return type(error)(
            f"{error}. {f'No checkpoint is left in {where}' if begun else 'There was no checkpoint yet'}"
        )
    advice = {
        LostFileError: f"; rlrun eval {where} plays it, but the run can't be resumed without that file",
        StorageError: f"; once there is room: rlrun resume {where}",
        EnvironmentFailure: f"; go on from there: rlrun resume {where}",
    }
    return type(error)(f"{error}. Last good checkpoint: {good}{advice.get(type(error), '')}")


@dataclass
class Member:
    """One run of the population, beside its slice of the trainer's state."""

    run: Run
    folder: CheckpointFolder
    recorder: Recorder | None = None
    handled: int = 0  # frames up to which all that was due is done
    saved: int = -1  # frames of the checkpoint this process saved last
    logged: int = 0  # frames of the newest row of metrics
    seconds: float = 0.0  # of training, evaluation and checkpoints excluded
    began: float = field(default_factory=time.monotonic)
    wall_seconds_before: float = 0.0  # of earlier processes
    episodes: int = 0
    recent: list[tuple[float, int]] = field(default_factory=list)  # return and length of episodes since the last row
    moved: list[str] = field(default_factory=list)  # settings changed on resume that change the bits
    told: tuple[int, dict[str, Any]] = (0, {})  # frame from which settings differ that the rows show, and these
    best: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None

    def capture(self) -> dict[str, Any]:
        return {
            "handled": self.handled,
            "logged": self.logged,
            "seconds": self.seconds,
            "wall_seconds": self.wall_seconds,
            "episodes": self.episodes,
            "recent": [list(pair) for pair in self.recent],
            "best": self.best,
            "evaluation": self.evaluation,
        }

    def restore(self, tree: Mapping[str, Any], frames: int, notice: Callable[[str], None]) -> None:
        """Go on where ``capture`` was, at ``frames``. Raises KeyError, TypeError, ValueError: it is not what was captured."""
        self.handled, self.logged = whole(tree["handled"], high=frames), whole(tree["logged"], high=frames)
        self.seconds, self.wall_seconds_before = (real(tree[name], low=0) for name in ("seconds", "wall_seconds"))
        self.episodes = whole(tree["episodes"], high=frames)
        self.recent = [(real(return_), whole(length)) for return_, length in tree["recent"]]
        self.best, self.evaluation = _evaluation(tree["best"]), _evaluation(tree["evaluation"])
        # It may be newer than the checkpoint, and is not to be replaced by a worse one.
        kept = _evaluation(self._kept_best(notice))
        for best in (self.best, kept):
            real(best["return_mean"] if best else 0)
        if kept is not None and (self.best is None or kept["return_mean"] >= self.best["return_mean"]):
            self.best = kept

    def _kept_best(self, notice: Callable[[str], None]) -> Any:
        """The evaluation that ``best.ckpt`` won by, if there is one of this run."""
        evaluation, config = self.folder.best_evaluation() or (None, None)
        if evaluation is None:
            return None
        changed = isinstance(config, dict) and forbidden_changes(config, clean(to_mapping(self.run.config)))
        if not changed and isinstance(config, dict):
            return evaluation
        why = f" ({'; '.join(changed)})" if changed else ""
        notice(
            f"{BEST_FILE} of {self.run.directory.name} is of another config{why}; only a better evaluation replaces it"
        )
        return None

    def has_enough(self) -> bool:
        """Whether a stop rule is met."""
        stop, evaluation = self.run.config.stop, self.evaluation
        return (
            (stop.episodes is not None and self.episodes >= stop.episodes)
            or (stop.seconds is not None and self.wall_seconds >= stop.seconds)
            or (stop.return_ is not None and evaluation is not None and evaluation["return_mean"] >= stop.return_)
        )

    def check_header(self, path: Path, header: Mapping[str, Any]) -> int:
        """Hold the run's config, and the name of the file, against the checkpoint's header. Returns its frames.

        Raises:
            ResumeError: they differ where they may not.
        """
        frames = frames_in(path.name)
        if frames is None or header.get("frames") != frames:
            raise ResumeError(f"{printable(path)} holds another frame than its name says")
        before, now = config_of(path, header), clean(to_mapping(self.run.config))
        changed = forbidden_changes(before, now)
        if changed:
            raise ResumeError(
                f"the checkpoint is not of this config: {'; '.join(changed)}; put config.yaml back as it was"
            )
        self.moved, self.told = inexact_changes(before, now), (frames, told_changes(before, now))
        return frames

    def begin(
        self,
        resumed: bool,
        inexact: str | None,
        population: Mapping[str, Any],
        note: str | None,
        facts: Mapping[str, Any],
    ) -> list[str]:
        """Mark the run as running. Returns why a resumed run is not exactly the one it would have been; nothing if it is.

        ``population``: whom it is trained with; ``note``: why its bits may depend on that, if they do.
        """
        manifest = self.run.manifest
        count, earlier = manifest.get("resumed"), manifest.get("inexact_because")
        reasons = [inexact] if inexact else []
        if resumed:
            note = note or dependence(manifest)
            reasons += other_population(manifest, population["size"], note)
            reasons += [
                *self.moved,
                *differences(manifest, facts["numerics"]),
                *(earlier if isinstance(earlier, list) else []),
            ]
        reasons = list(dict.fromkeys(reasons))
        self.run.update(
            status="running",
            failure=None,
            resumed=(count if isinstance(count, int) else 0) + resumed,
            exact=not reasons,
            inexact_because=reasons,
            population=population,
            alone=note or SAME_BITS,
            **self._history(),
            **facts,
        )
        return reasons if resumed else []

    def doubt(self, reason: str, note: str | None) -> None:
        """Record that the run can't be resumed exactly after all; ``note`` as in ``begin``. Raises StorageError."""
        earlier = texts(self.run.manifest.get("inexact_because"))
        self.run.update(exact=False, inexact_because=list(dict.fromkeys([*earlier, reason])), alone=note or SAME_BITS)

    def _history(self) -> dict[str, Any]:
        """What run.json is to say under ``changed``: from which frame on the run went by which other settings."""
        frames, settings = self.told
        entries = self.run.manifest.get("changed")
        earlier = [
            entry
            for entry in (entries if isinstance(entries, list) else [])
            if isinstance(entry, dict) and isinstance(entry.get("frames"), int) and entry["frames"] < frames
        ]  # later ones were of what is cut off now
        now = [*earlier, *([{"frames": frames, "settings": settings}] if settings else [])]
        return {"changed": now} if now or entries else {}

    @property
    def wall_seconds(self) -> float:
        """Wall-clock time of the run, over all its processes."""
        return self.wall_seconds_before + time.monotonic() - self.began

    @property
    def files(self) -> Recorder:
        assert self.recorder is not None
        return self.recorder

    def record(self, frames: int, episode: Episode) -> None:
        self.episodes += 1
        self.recent.append((episode.return_, episode.length))
        self.files.episode(frames, episode.return_, episode.length)

    def log(self, frames: int, numbers: Mapping[str, float | None]) -> dict[str, Any]:
        """Write a row of metrics and one of timing; returns the former."""
        row: dict[str, Any] = {"type": "train", "frames": frames, "episodes": self.episodes}
        if self.recent:
            returns, lengths = zip(*self.recent, strict=True)
            row |= {
                "return_mean": sum(returns) / len(returns),
                "length_mean": sum(lengths) / len(lengths),
                "length_max": max(lengths),
            }
            self.recent = []
        row |= numbers
        self.logged = frames
        self.files.metrics(row)
        self.files.timing({"frames": frames, "seconds": self.seconds, "unix_time": time.time()})
        self.files.flush()
        return row

    def evaluated(self, frames: int, result: Mapping[str, Any]) -> bool:
        """Note an evaluation; true if it is the best so far. Of equals the newest wins; what is not finite never does."""
        numbers = {key: value for key, value in result.items() if key not in ("returns", "lengths")}
        lengths = result["lengths"]
        steps = {"length_mean": sum(lengths) / len(lengths), "length_max": max(lengths)}
        self.files.metrics({"type": "evaluation", "frames": frames, **numbers, **steps})
        mean = result["return_mean"]
        best = bool(np.isfinite(mean)) and (self.best is None or mean >= self.best["return_mean"])
        self.evaluation = numbers | {"frames": frames}
        if best:
            self.best = self.evaluation | {"checkpoint": BEST_FILE}
        return best

    def save(self, frames: int, training: dict[str, Any]) -> None:
        """A checkpoint to continue from; ``training`` is the member's slice of the trainer's state. Raises StorageError."""
        tree = {"training": training, "loop": self.capture(), "offsets": self.files.sync()}
        self.folder.save(frames, self._header(frames), tree)
        self.saved = frames
        self.describe(frames)

    def save_best(self, frames: int, policy: dict[str, Any]) -> None:
        """The weights of the best evaluation, which has just been recorded. Raises StorageError."""
        self.folder.save_best(self._header(frames) | {"evaluation": self.best}, {"training": policy})

    def _header(self, frames: int) -> dict[str, Any]:
        return {"frames": frames, "config": clean(to_mapping(self.run.config))}

    def describe(self, frames: int, **fields: Any) -> None:
        """Bring run.json up to date."""
        self.run.update(
            frames=frames,
            frames_per_second=frames / self.seconds if self.seconds else None,
            seconds=self.seconds,
            wall_seconds=self.wall_seconds,
            episodes=self.episodes,
            evaluation=self.evaluation
            and self.evaluation | {"checkpoint": self._evaluated_checkpoint(self.evaluation)},
            best=self.best,
            **fields,
        )

    def _evaluated_checkpoint(self, evaluation: Mapping[str, Any]) -> str | None:
        """The file that holds the evaluated weights, if one does."""
        name = step_file(evaluation["frames"])
        if (self.folder.directory / name).is_file():
            return name
        return BEST_FILE if self.best is not None and self.best["frames"] == evaluation["frames"] else None

    def close(self) -> None:
        """Close the files, once: what could not be written is not tried again. Raises StorageError."""
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            recorder.close()


_OF_AN_EVALUATION = ("return_mean", "return_std", "return_iqm", "return_min", "return_max")


def _evaluation(tree: Any) -> dict[str, Any] | None:
    """An evaluation as a checkpoint has it. Raises KeyError, TypeError, ValueError: it is none, and may be anything."""
    if tree is None:
        return None
    numbers = {key: tree[key] for key in _OF_AN_EVALUATION}
    if not all(type(value) is float for value in numbers.values()):
        raise ValueError(f"no evaluation: {numbers!r:.80}")
    counts = {key: whole(tree[key]) for key in ("episodes", "frames")}
    return numbers | counts | ({"checkpoint": BEST_FILE} if "checkpoint" in tree else {})
