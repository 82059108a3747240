"""A run in TensorBoard: one event file in ``<run>/tensorboard``, written without TensorFlow or PyTorch.

An event file can't be cut back to a checkpoint as metrics.jsonl is. So a run that goes on writes its file anew from its first
row: the folder always shows what metrics.jsonl has, each point once.
"""
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_tensor_proto

from rlrun.config.resuming import leaves
from rlrun.tracking.folders import own_folder
from rlrun.tracking.points import Point, Subject

_SECONDS_BETWEEN_FLUSHES = 120  # by its own thread; ``log`` flushes
_WAITING = 1000  # events
_STATUSES = {"finished": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}
_NO_HYPERPARAMETERS = ("outputs", "logger", "name", "checkpoint.", "logging.", "plot.", "sweep.", "stop.")


def open_run(subject: Subject, say: Callable[[str], None]) -> TensorBoard:
    """Raises OSError."""
    folder = own_folder(subject.directory / "tensorboard")
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    say(f"tensorboard --logdir {subject.outputs}")
    return TensorBoard(folder, subject)


class TensorBoard:
    """The event file of one run."""

    def __init__(self, folder: Path, subject: Subject) -> None:
        self._writer = EventFileWriter(str(folder), _WAITING, _SECONDS_BETWEEN_FLUSHES)
        settings = leaves(subject.config)
        self._add(
            subject.created, 0, [_text("hyperparameters/text_summary", _table(settings)), _start(subject, settings)]
        )
        self._writer.flush()

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in point.values.items()]
            self._add(point.moment, point.frames, values)
        self._writer.flush()

    def close(self, status: str) -> None:
        end = plugin_data_pb2.SessionEndInfo(
            status=_STATUSES.get(status, api_pb2.STATUS_UNKNOWN), end_time_secs=time.time()
        )
        data = plugin_data_pb2.HParamsPluginData(session_end_info=end)
        self._add(time.time(), 0, [_of_plugin(metadata.SESSION_END_INFO_TAG, data)])
        self._writer.close()

    def _add(self, moment: float, step: int, values: list[Any]) -> None:
        self._writer.add_event(Event(wall_time=moment, step=step, summary=Summary(value=values)))


def _table(settings: Mapping[str, Any]) -> str:
    """Markdown, as CleanRL writes it."""
    rows = [f"|{key}|{str(value).replace('|', chr(92) + '|')}|" for key, value in settings.items()]
    return "\n".join(["|param|value|", "|-|-|", *rows])


def _text(tag: str, text: str) -> Any:
    return Summary.Value(
        tag=tag, metadata=create_summary_metadata(tag, None), tensor=make_tensor_proto([text.encode()])
    )


def _start(subject: Subject, settings: Mapping[str, Any]) -> Any:
    """What the HPARAMS page shows of the run."""
    start = plugin_data_pb2.SessionStartInfo(start_time_secs=subject.created)
    for key, value in settings.items():
        if key.startswith(_NO_HYPERPARAMETERS) or value is None:
            continue
        if isinstance(value, bool):
            start.hparams[key].bool_value = value
        elif isinstance(value, int | float):
            start.hparams[key].number_value = value
        else:
            start.hparams[key].string_value = str(value)
    return _of_plugin(metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=start))


def _of_plugin(tag: str, data: Any) -> Any:
    described: SummaryMetadata = metadata.create_summary_metadata(data)
    return Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)
