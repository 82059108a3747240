"""The checkpoints of a run in their folder: which stay, which is the newest good one, and large memories saved in pieces."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rlrun.arrays import Ring
from rlrun.checkpoint import Tree, find_damage, read, read_header, save
from rlrun.checkpoint_names import BEST_FILE, DAMAGED, step_file, steps_in
from rlrun.errors import ResumeError, StorageError
from rlrun.pieces import SMALLEST, Pieces, is_pieced, names_of
from rlrun.plain import printable, reason_of, remove_stale, sync_directory

PAUSES = (0.1, 0.5)
"""Seconds to wait before a save that failed is tried again."""


class CheckpointFolder:
    """The checkpoints of one run: ``step_<frames>.ckpt``, of which the newest ``keep`` (>= 1) stay, and ``best.ckpt``.

    Making one touches nothing, so that readers may; saving is for the holder of the run's lock. Of the ``Ring`` in a state
    only what is new is written, if it is large: a run has at most one.
    """

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory = directory
        self._keep = keep
        self._tidied = False
        self._pieces = Pieces(directory)

    def save(self, frames: int, header: Tree, state: Tree) -> None:
        """Save the state reached after ``frames`` frames, then delete older ones beyond the newest ``keep``.

        Raises:
            TypeError, StorageError: as the function ``save``; the checkpoints that were there still are.
        """
        self._write(self.directory / step_file(frames), header, state)
        older: list[str] = []
        with contextlib.suppress(ResumeError):  # one file too many is no reason to end a run
            older = [name for number, name in self._steps() if number <= frames]
        for name in older[: -self._keep]:
            with contextlib.suppress(OSError):
                (self.directory / name).unlink()
        if self._pieces.names:
            self._prune_pieces()

    def _prune_pieces(self) -> None:
        """Delete pieces that no checkpoint refers to any more; none if that can't be known."""
        used: set[str] = set()
        with contextlib.suppress(ResumeError, ValueError):
            for _, name in self._steps():
                used |= names_of(read_header(self.directory / name).get("pieces", []))
            self._pieces.prune(used)

    def save_best(self, header: Tree, state: Tree) -> None:
        """Replace ``best.ckpt``; raises as ``save``."""
        self._write(self.directory / BEST_FILE, header, state)

    def best_evaluation(self) -> tuple[dict[str, Any], Any] | None:
        """The evaluation that ``best.ckpt`` won by and the config it is of, from its header; None if there is none or it is damaged."""
        path = self.directory / BEST_FILE
        if not os.path.lexists(path) or find_damage(path) is not None:
            return None
        header = read_header(path)
        evaluation = header.get("evaluation")
        if not isinstance(evaluation, dict) or not isinstance(evaluation.get("return_mean"), float):
            return None
        return evaluation, header.get("config")

    def newest(self, notice: Callable[[str], None]) -> tuple[Path, Tree, Tree]:
        """Path, header and state of the newest undamaged checkpoint.

        Raises:
            ResumeError: there is none, or the newest one is of a newer rlrun.
        """
        found = bool(self._steps())
        for _, path in self.undamaged(notice):
            return self._read(path)
        if found:
            raise ResumeError(f"every checkpoint in {printable(self.directory)} is damaged")
        raise self._missing("no checkpoint to continue from (stopped before the first one?)")

    def at(self, frames: int) -> tuple[Path, Tree, Tree]:
        """Path, header and state of the checkpoint of ``frames``. Raises ResumeError: there is none, or it is damaged."""
        path = self.resolve(str(frames))
        reason = self._find_damage(path)
        if reason is not None:
            raise ResumeError(f"{printable(path)} is {reason}")
        return self._read(path)

    def _find_damage(self, path: Path) -> str | None:
        """What is wrong with a checkpoint or the pieces that it refers to, None if nothing is. Raises ResumeError."""
        return find_damage(path) or self._find_damaged_piece(path)

    def _find_damaged_piece(self, path: Path) -> str | None:
        header: Tree = {}
        with contextlib.suppress(ResumeError):  # not written by this rlrun: reading it will tell
            header = read_header(path)
        with contextlib.suppress(ValueError):
            return self._pieces.find_damage(header.get("pieces", []))
        return None

    def _read(self, path: Path) -> tuple[Path, Tree, Tree]:
        """Path, header and state of a checkpoint that is undamaged."""
        header, state = read(path)
        try:
            return path, header, self._with_rings(state, header.get("pieces"))
        except (ValueError, OSError) as error:
            raise ResumeError(f"{printable(path)} is malformed: not written by rlrun ({error})") from error

    def _with_rings(self, tree: Any, verified: Any) -> Any:
        """A part of a saved state, with the ring that the ``verified`` pieces make up. Raises ValueError: it is of others."""
        if is_pieced(tree):
            if tree["pieces"] != verified:
                raise ValueError("pieces that its header does not name")
            return self._pieces.load(tree)
        if not isinstance(tree, dict):
            return tree
        return {key: self._with_rings(value, verified) for key, value in tree.items()}

    def _without_rings(self, tree: Any, header: Tree) -> Any:
        """A part of a state fit to be saved: rings whole, or in pieces that ``header`` names as well."""
        if isinstance(tree, Ring):
            if tree.nbytes < SMALLEST or not tree.written:
                return tree.whole()
            saved = self._pieces.save(tree)
            header["pieces"] = saved["pieces"]
            return saved
        return (
            {key: self._without_rings(value, header) for key, value in tree.items()} if isinstance(tree, dict) else tree
        )

    def undamaged(self, notice: Callable[[str], None]) -> Iterator[tuple[int, Path]]:
        """Frames and path of every undamaged checkpoint, newest first, each checked when it is asked for.

        Damaged ones are renamed to ``*.bad``, unless the fault is with a piece, and reported with one line to ``notice``. Raises
        ResumeError if one can't be read.
        """
        candidates = [(frames, self.directory / name) for frames, name in reversed(self._steps())]
        for position, (frames, path) in enumerate(candidates):
            own = find_damage(path)
            reason = own or self._find_damaged_piece(path)
            if reason is None:
                yield frames, path
                continue
            renamed = ""
            if own is not None:  # with its pieces back, the file may be good again
                with contextlib.suppress(OSError):  # of a read-only run: skipped all the same
                    path.rename(path.with_name(path.name + DAMAGED))
                    renamed = f", renamed to {path.name}{DAMAGED}"
            older = candidates[position + 1 :]
            notice(
                f"{path.name} is {reason}{renamed}; {f'using {older[0][1].name}' if older else 'no older one is left'}"
            )

    def delete_after(self, frames: int) -> None:
        """Delete checkpoints of more than ``frames`` frames: a run that goes on from there will save them again.

        Raises:
            ResumeError: the folder can't be read. StorageError: one is still there.
        """
        newer = [name for number, name in self._steps() if number > frames]
        try:
            for name in newer:
                (self.directory / name).unlink()
            if newer:
                sync_directory(self.directory)
        except OSError as error:
            raise StorageError(f"can't delete from {printable(self.directory)}: {reason_of(error)}") from error

    def last_good(self) -> str | None:
        """The name of the newest checkpoint that is undamaged; None if there is none. Touches nothing."""
        for _, name in reversed(self._steps()):
            with contextlib.suppress(ResumeError):
                if self._find_damage(self.directory / name) is None:
                    return name
        return None

    def resolve(self, selector: str) -> Path:
        """The path of ``best``, ``last`` or a number of frames.

        Raises:
            ResumeError: no such checkpoint; names those that exist. Or they can't be read.
        """
        steps = self._steps()
        if selector == "best" and BEST_FILE in self._names():
            return self.directory / BEST_FILE
        if selector == "last" and steps:
            return self.directory / steps[-1][1]
        for frames, name in steps:
            if selector == str(frames):
                return self.directory / name
        raise self._missing(f"no checkpoint '{printable(selector)}'")

    def _missing(self, what: str) -> ResumeError:
        names = [str(frames) for frames, _ in self._steps()]
        if BEST_FILE in self._names():
            names.insert(0, "best")
        return ResumeError(f"{what} in {printable(self.directory)}; there is: {', '.join(names) or 'nothing'}")

    def _steps(self) -> list[tuple[int, str]]:
        """Frames and name of every step file, oldest first. Raises ResumeError: as ``_names``."""
        return steps_in(self._names())

    def _names(self) -> list[str]:
        """Of the regular files; none if there is no folder. Raises ResumeError: it can't be read, or is a link."""
        if self.directory.is_symlink():  # a planted link would let us rename and delete in another run's folder
            raise ResumeError(f"{printable(self.directory)} is a symbolic link; checkpoints need a real folder")
        try:
            with os.scandir(self.directory) as entries:
                return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ResumeError(f"can't read {printable(self.directory)}: {reason_of(error)}") from error

    def _write(self, path: Path, header: Tree, state: Tree) -> None:
        """Write a checkpoint, again after a while if that fails: a full or distant disk may be so for a moment."""
        if self.directory.is_symlink():  # a planted link would let us prune another run's folder
            raise StorageError(f"{printable(self.directory)} is a symbolic link; checkpoints need a real folder")
        if not self._tidied:
            remove_stale(self.directory)
            self._tidied = True
        for pause in (*PAUSES, None):
            try:
                header = dict(header)
                save(path, header, self._without_rings(state, header))
                if "pieces" in header:
                    self._pieces.committed()
                return
            except StorageError:
                if pause is None or not self.directory.is_dir():
                    raise
                time.sleep(pause)
