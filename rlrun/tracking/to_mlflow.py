"""A run in MLflow: at ``MLFLOW_TRACKING_URI``, or else in files in ``<outputs>/mlruns``.

MLflow would take SQLite for a local store, but that needs the full package, and many processes can't make and fill one
database at once; files need nothing, and ``mlflow migrate-filestore`` turns them into a database.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is imported

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import (
    MAX_METRICS_PER_BATCH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MAX_TAG_VAL_LENGTH,
)

from rlrun.config.resuming import leaves
from rlrun.tracking.folders import own_folder, refuse_link, refuse_links, turn
from rlrun.tracking.points import Point, Subject

EXPERIMENT = "rlrun"
_ID = "rlrun.id"
_STATUSES = {"finished": "FINISHED", "failed": "FAILED"}
_SECONDS_TO_WAIT = 30.0  # for another process that makes the same experiment


def open_run(subject: Subject, say: Callable[[str], None]) -> MLflow:
    """Raises OSError, and what MLflow raises."""
    uri, store = os.environ.get("MLFLOW_TRACKING_URI"), None
    folder = subject.outputs.resolve()  # it may be a link of the user's
    if not uri:
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        store = own_folder(folder / "mlruns")
        uri = store.as_uri()
        say(f"mlflow: in {subject.outputs / 'mlruns'}")
    client = MlflowClient(tracking_uri=uri)
    with turn(folder, _SECONDS_TO_WAIT):  # two of the same name would be two experiments
        experiment = _experiment(client, subject)
    found = client.search_runs([experiment], f"tags.`{_ID}` = '{subject.id}'", max_results=1)
    if store is not None:
        _refuse_links(store, [run.info.run_id for run in found])
    run = (
        found[0]
        if found
        else client.create_run(
            experiment, start_time=int(subject.created * 1000), tags=_tags(subject), run_name=subject.title
        )
    )
    if found:
        client.update_run(run.info.run_id, status="RUNNING")
    return MLflow(client, run, subject)


class MLflow:
    """One run."""

    def __init__(self, client: MlflowClient, run: Any, subject: Subject) -> None:
        self._client, self._id = client, run.info.run_id
        self._last = {key: max(metric.step for metric in self._history(key)) for key in run.data.metrics}
        params = {key: str(value)[:MAX_PARAM_VAL_LENGTH] for key, value in leaves(subject.config).items()}
        new = [Param(key, value) for key, value in params.items() if key not in run.data.params]
        for batch in _batches(new, MAX_PARAMS_TAGS_PER_BATCH):
            client.log_batch(self._id, params=batch)
        # A param can't change in MLflow, but total_frames of a run that is extended does.
        for key, value in params.items():
            if run.data.params.get(key, value) != value:
                client.set_tag(self._id, f"changed.{key}", value)

    def _history(self, key: str) -> Sequence[Metric]:
        history: Sequence[Metric] = self._client.get_metric_history(self._id, key)
        return history

    def log(self, points: Sequence[Point]) -> None:
        metrics = [
            Metric(key, value, int(point.moment * 1000), point.frames)
            for point in points
            for key, value in point.values.items()
            if point.frames > self._last.get(key, -1)
        ]
        for batch in _batches(metrics, MAX_METRICS_PER_BATCH):
            self._client.log_batch(self._id, metrics=batch)

    def close(self, status: str) -> None:
        self._client.set_terminated(self._id, _STATUSES.get(status, "KILLED"))


def _refuse_links(store: Path, runs: Sequence[str]) -> None:
    """MLflow writes through links, and to the first run with the id in any experiment. Raises OSError: a link is on the way."""
    for experiment in [*store.iterdir(), *(store / ".trash").glob("*")]:
        refuse_link(experiment)
        for path in experiment.glob("*"):
            if path.name in runs:
                refuse_links(path)


def _experiment(client: MlflowClient, subject: Subject) -> str:
    """The id of the experiment, which is made if need be."""
    own = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if own and not subject.project:
        return own
    name = subject.project or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException:  # on a server, another machine may have been faster
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return str(experiment.experiment_id)


def _tags(subject: Subject) -> dict[str, str]:
    tags = {_ID: subject.id, "algo": subject.algo, "env": subject.env, "mlflow.source.name": "rlrun"}
    git = subject.facts.get("git")
    optional = {
        "sweep": subject.sweep,
        "name": subject.name,
        "mlflow.source.git.commit": git.get("sha") if isinstance(git, dict) else None,
    }
    return tags | {key: str(value)[:MAX_TAG_VAL_LENGTH] for key, value in optional.items() if value}


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
