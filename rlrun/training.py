"""The loop every algorithm shares. It alone knows about evaluation, metrics, checkpoints, signals and progress.

What is due is a pure function of the frame count, so that a resumed run does the same things at the same frames.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from rlrun import hardware
from rlrun.bookkeeping import Books
from rlrun.checkpoint_folder import CheckpointFolder
from rlrun.config import RunConfig, signature
from rlrun.envs import spaces
from rlrun.errors import ResumeError, RlrunError, StorageError, as_storage_error, in_users_terms, one_line
from rlrun.interrupts import Interrupts
from rlrun.manifest import SAME_BITS
from rlrun.manners import go_back, telling
from rlrun.member import Member, population_note, require_weights, take, with_advice
from rlrun.metrics import Recorder
from rlrun.run import Run
from rlrun.shared_state import Snapshot, changed
from rlrun.tracking.tracking import Tracking
from rlrun.trainers import inexactness, layout_of, make_trainer, process_set_for
from rlrun.trainers.base import check_counts, restore
from rlrun.view import Outcome, View
from rlrun.watchdog import watching


def train(
    runs: Sequence[Run],
    view: View,
    resume: bool = False,
    frames: int | None = None,
    interrupts: Interrupts | None = None,
    until: int | None = None,
) -> list[Outcome]:
    """Train runs of one signature as a population; if ``resume``, all from their checkpoints of ``frames``, or one from its newest.

    ``interrupts``: already entered by a caller who wants signals to be caught from before on; else only while training.
    ``until``: frames at which they end, though schedules run to ``total_frames``.

    A run that is locked, damaged, changed since it was read, or can't go on, fails alone and stays as it was.

    Raises:
        RlrunError: nothing could be started: no such device; of one run, it is locked, or has no checkpoint to resume from.
    """
    assert len({signature(run.config) for run in runs}) == 1
    assert not resume or frames is not None or len(runs) == 1  # members share what counts frames
    with contextlib.ExitStack() as stack:
        refused = take(runs, stack, anew=not resume)
        interrupts = interrupts or stack.enter_context(Interrupts())
        stack.enter_context(np.errstate(all="ignore"))  # what is not finite is found and named by the trainers
        ended = set(refused)
        env = runs[0].config.env
        stack.enter_context(watching(env.id, env.step_timeout, functools.partial(_leave, runs, ended, view)))
        stack.enter_context(telling(view.note))
        stack.enter_context(process_set_for(runs[0].config))
        loop = Loop(runs, view, interrupts, ended, until, resume)
        stack.callback(loop.close)
        outcomes = loop.run(resume, frames, refused)
    return outcomes


def _leave(
    runs: Sequence[Run], ended: Collection[int], view: View, agent: int | None, failure: RlrunError
) -> RlrunError:
    """Record that the process ends because an environment hangs: of its own run, or of all if that is not known.

    The others stop at their last checkpoint. Called from another thread: the main one will not come back.
    Returns the failure with what is left of its run.
    """
    go_back(runs[0].config.env.id)
    said = failure
    left = set(range(len(runs))).difference(ended)
    for number in left:
        error = with_advice(runs[number], failure) if agent in (None, number) else None
        said = error or said
        status = "stopped" if error is None else "failed"
        with contextlib.suppress(StorageError):
            runs[number].update(status=status, failure=error and str(error))
        view.ended(number, status, error)
    return said if left else type(failure)(f"{failure}. Its run had ended before, and is saved")


class Loop:
    """One population from start to end."""

    def __init__(
        self,
        runs: Sequence[Run],
        view: View,
        interrupts: Interrupts,
        ended: set[int],
        until: int | None = None,
        resume: bool = False,
    ) -> None:
        """``ended`` is kept up to date: the members that nothing more is to be written of."""
        self.view, self.interrupts, self.ended = view, interrupts, ended
        self.config: RunConfig = runs[0].config
        self.end = self.config.total_frames if until is None else min(until, self.config.total_frames)
        self.hardware = hardware.configure(self.config)
        self.inexact = inexactness(self.config)
        found = spaces(self.config.env)
        if resume:
            require_weights([run.checkpoints for run in runs], 4 * layout_of(self.config, found).size)
        self.trainer = make_trainer([run.config for run in runs], found, self.hardware, self.inexact is None)
        self.members = [Member(run, CheckpointFolder(run.checkpoints, run.config.checkpoint.keep)) for run in runs]
        self.books = Books(self.trainer, self.members, self.config, view, interrupts)
        self.tracking = Tracking({}, view.note)
        self.active = list(range(len(runs)))
        self.outcomes: dict[int, Outcome] = {}
        go_back(self.config.env.id)

    def close(self) -> None:
        self.trainer.close()
        for member in self.members:
            member.close()
        self.tracking.finish(self.interrupts)

    def run(self, resume: bool, frames: int | None, refused: Mapping[int, RlrunError]) -> list[Outcome]:
        """Train until every member has ended, but for those that are ``refused``."""
        for agent, error in refused.items():
            self._freeze(agent, "failed", error)
        self._open(resume, frames)
        self._begin(resume)
        try:
            while self.active:
                self._do_what_is_due()
                if self.interrupts():
                    self._stop()
                elif self.active:
                    self._train()
        except RlrunError as error:
            self._end_all(error)
        except BaseException as error:
            self._end_all(in_users_terms(error))
            if as_storage_error(error) is None:  # no memory is the user's to mend
                raise
        finally:
            self.view.finish()
        return [self.outcomes[agent] for agent in range(len(self.members))]

    def _open(self, resume: bool, frames: int | None) -> None:
        """Bring every member to its first frame. One that can't go there is left out, its run as it was.

        Raises:
            RlrunError: there is only that one.
        """
        offsets: dict[int, dict[str, int]] = {}
        for agent in list(self.active) if resume else ():
            member = self.members[agent]
            with self._leaving_out(agent):
                offsets[agent] = self._restore(agent, member, frames)
        for agent in list(self.active):
            member = self.members[agent]
            with self._leaving_out(agent):
                if resume:  # first: no checkpoint may count on more metrics than there are
                    member.folder.delete_after(self.trainer.frames)
                member.recorder = Recorder(member.run.directory, offsets.get(agent))

    @contextlib.contextmanager
    def _leaving_out(self, agent: int) -> Iterator[None]:
        try:
            yield
        except (ResumeError, StorageError) as error:
            if len(self.members) == 1:
                raise
            self._freeze(agent, "failed", error)

    def _restore(self, agent: int, member: Member, frames: int | None) -> dict[str, int]:
        path, header, tree = member.folder.newest(self.view.note) if frames is None else member.folder.at(frames)
        reached = member.check_header(path, header)  # first: counts that the members share are in the tree
        try:
            check_counts(tree["training"], self.trainer.counts(reached))
            member.restore(tree["loop"], reached, self.view.note)
            continued = restore(self.trainer.state, agent, tree["training"])
            offsets: dict[str, int] = tree["offsets"]
            go_back(self.config.env.id)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise ResumeError(f"{path.name} of {member.run.directory.name} is not usable: {one_line(error)}") from error
        if self.trainer.frames != reached:
            raise ResumeError(f"{path.name} of {member.run.directory.name} holds a frame that no step ends at")
        if not continued:
            member.moved.append(f"new episodes began: {self.inexact or 'the checkpoint has no environment state'}")
        return offsets

    def _begin(self, resume: bool) -> None:
        implementation = self.hardware.path
        facts = {
            "device": self.hardware.device,
            "implementation": implementation,
            "numerics": self.hardware.numerics(),
        }
        size, first = len(self.members), self.members[0].run.directory.name
        note = population_note(self.config, size, self.inexact)
        doubts = [self.inexact] if self.inexact else []
        for agent in list(self.active):
            member, population = self.members[agent], {"size": size, "index": agent, "first": first}
            with self._leaving_out(agent):
                for reason in member.begin(resume, self.inexact, population, note, facts):
                    self.view.note(f"{member.run.directory.name}: not exactly the run it would have been: {reason}")
                    doubts.append(reason)
        chosen = " (auto)" if self.config.device == "auto" else ""
        device = f"{facts['device']}{chosen}"
        header = {
            "device": device,
            "networks": implementation,
            "exact resume": f"no: {doubts[0]}" if doubts else "yes",
        }
        engine = {} if self.config.engine == "rlrun" else {"engine": self.config.engine}
        alone = {"alone": note or SAME_BITS} if size > 1 else {}
        self.view.start([member.run for member in self.members], header | engine | alone)
        self.books.check_filming()
        self.tracking = Tracking({agent: self.members[agent].run for agent in self.active}, self.view.note)

    def _train(self) -> None:
        """Steps up to the next due frame or moment, a signal, a failure, or the last episode wanted."""
        trainer, interrupts, config = self.trainer, self.interrupts, self.config
        cadences = config.logging.every_frames, config.evaluation.every_frames, config.checkpoint.every_frames
        target = min(self.end, *(next_multiple(trainer.frames, every) for every in cadences if every > 0))
        limit = config.stop.seconds
        left = math.inf if limit is None else limit - max(self.members[agent].wall_seconds for agent in self.active)
        started = time.monotonic()
        deadline = min(started + left, self.books.save_by)
        shared = self._shared()
        while trainer.frames < target and not (trainer.failures and self._has_failed()):
            if interrupts() or interrupts.save_wanted:
                break
            trainer.step()
            if (trainer.episodes and self._record_episodes()) or time.monotonic() >= deadline:
                break
        self._spent(started)
        go_back(config.env.id)
        reason = changed(shared, self._shared())
        if reason is not None:
            self.inexact = reason
            self.books.doubt(self.active, reason)

    def _shared(self) -> Snapshot:
        """What environments have in common, if that nothing of it changes is what an exact resume builds on."""
        return {} if self.inexact else self.trainer.state.environments.shared()

    def _has_failed(self) -> bool:
        return not self.trainer.failures.keys().isdisjoint(self.active)

    def _record_episodes(self) -> bool:
        """Hand ended episodes to their members; true if one has all it wanted."""
        for frames, episode in self.trainer.episodes:
            if episode.agent in self.active:
                self.members[episode.agent].record(frames, episode)
        self.trainer.episodes.clear()
        wanted = self.config.stop.episodes
        return wanted is not None and any(self.members[agent].episodes >= wanted for agent in self.active)

    def _spent(self, started: float) -> None:
        seconds = time.monotonic() - started
        for agent in self.active:
            self.members[agent].seconds += seconds

    def _do_what_is_due(self) -> None:
        """Evaluation, metrics and checkpoint at this frame, then the end of who has reached it.

        If an interruption cuts the evaluation short, nothing is marked as done, and a resumed run does all of it.
        """
        self._drop_failed()
        if not self.active:
            return
        frames, config = self.trainer.frames, self.config
        before = {agent: self.members[agent].handled for agent in self.active}
        if not self.books.evaluate(self._due(before, config.evaluation.every_frames)):
            return
        self._drop_failed()
        self.books.log(self._due(before, config.logging.every_frames))
        self.tracking.listen()
        for agent in self.active:
            self.members[agent].handled = frames
        asked = self.interrupts.save_wanted
        at_once = asked or time.monotonic() >= self.books.save_by
        self.books.save(self.active if at_once else self._due(before, config.checkpoint.every_frames))
        if asked and any(self.members[agent].saved == frames for agent in self.active):
            self.view.note(f"checkpoint of frame {frames:,} saved, as SIGUSR1 asked")
        self._drop_failed()
        ended = [agent for agent in self.active if frames >= self.end or self.members[agent].has_enough()]
        if ended and self._close_books(ended):
            self._drop_failed()
            for agent in [agent for agent in ended if agent in self.active]:
                self._end(agent, "finished")

    def _due(self, before: Mapping[int, int], every: int) -> list[int]:
        """The members of which something is due, each by what was done of it before: a resumed one may have been cut short."""
        return [agent for agent in self.active if due(before[agent], self.trainer.frames, every)]

    def _close_books(self, agents: list[int]) -> bool:
        """Last checkpoint, evaluation and metrics. False if interrupted.

        The checkpoint comes first: what is not due at this frame is cut off and written anew if the run is extended.
        """
        frames = self.trainer.frames
        self.books.save(agents)
        self._drop_failed()
        agents = [agent for agent in agents if agent in self.active]
        unevaluated = [agent for agent in agents if (self.members[agent].evaluation or {}).get("frames") != frames]
        if unevaluated and not self.books.evaluate(unevaluated):
            return False
        self.books.log([agent for agent in agents if self.members[agent].logged != frames])
        return True

    def _stop(self) -> None:
        """Save and leave, because of a signal."""
        self.books.save(self.active)
        self._drop_failed()
        for agent in list(self.active):
            self._end(agent, "stopped")

    def _drop_failed(self) -> None:
        for agent in self.trainer.failures.keys() & set(self.active):
            self._end(agent, "failed", self.trainer.failures[agent])

    def _end(self, agent: int, status: str, error: RlrunError | None = None) -> None:
        """Record how a member ended, as far as its disk allows."""
        member = self.members[agent]
        go_back(self.config.env.id)
        if error is not None:
            error = with_advice(member.run, error, member.saved >= 0)
        try:
            member.close()
            member.describe(self.trainer.frames, status=status, failure=str(error) if error else None)
        except StorageError as problem:
            status, error = "failed", error or with_advice(member.run, problem, member.saved >= 0)
        self.tracking.ended(agent, status)
        self._freeze(agent, status, error)

    def _freeze(self, agent: int, status: str, error: RlrunError | None) -> None:
        """Take out a member that has ended: its slice stays, but nothing of it is stepped or written any more."""
        self.active.remove(agent)
        self.ended.add(agent)
        self.trainer.retire(agent)
        signal = self.interrupts.signal if status == "stopped" else None
        self.outcomes[agent] = Outcome(self.members[agent].run, status, error, signal)
        self.view.ended(agent, status, error)

    def _end_all(self, error: RlrunError) -> None:
        for agent in list(self.active):
            self._end(agent, "failed", error)


def next_multiple(frames: int, every: int) -> int:
    """The first multiple of ``every`` after ``frames``."""
    return (frames // every + 1) * every


def due(before: int, after: int, every: int) -> bool:
    """Whether a multiple of ``every`` frames lies in (before, after]; never for 0."""
    return every > 0 and before // every != after // every
