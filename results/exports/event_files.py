"""Trainings as TensorBoard event files, written with the record writer and the messages of `tensorboard`.

`tensorboard`'s `EventFileWriter` and `torch.utils.tensorboard` are not used, because they import a framework.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from harness.whole_files import write_whole
from results.exports.training import Training, trainings


def write_event_files(frame: pd.DataFrame, folder: Path) -> tuple[list[Path], int]:
    """Write one event file per trained process, in a folder that is its name in TensorBoard.

    Returns the files and the number of processes without training. A second export writes the same files again. Raises
    OSError, and ImportError without `tensorboard`.
    """
    written, left_out = [], 0
    for training in trainings(frame):
        if not training.curves:
            left_out += 1
            continue
        target = folder / _folder(training) / f"events.out.tfevents.{int(training.began):010}.{training.identity}"
        content = _content(_events(training))
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, content)
        written.append(target)
    return written, left_out


def _folder(training: Training) -> Path:
    """Return a safe folder name; the identity distinguishes two processes of one case."""
    words = [re.sub(r"[^\w.+=-]", "_", word).lstrip(".")[:100] or "_" for word in training.name.split("/")]
    return Path(*words[:-1], f"{words[-1]}-{training.identity[:8]}")


def _content(events: Iterable[Any]) -> bytes:
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
    return buffer.getvalue()


def _events(training: Training) -> Iterator[Any]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    def scalar(tag: str, value: float, step: int, at: float) -> Any:
        return Event(wall_time=at, step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))

    yield Event(wall_time=training.began, file_version="brain.Event:2")
    started = hparams_pb(training.settings, trial_id=training.identity, start_time_secs=training.began)
    yield Event(wall_time=training.began, summary=started)
    last, ended = 0, training.began + training.seconds
    for name, points in training.curves.items():
        last = points[-1].step
        yield from (scalar(f"epoch/{name}", point.value, point.step, point.at) for point in points)
    yield from (scalar(f"figures/{name}", value, last, ended) for name, value in training.figures.items())
    yield Event(wall_time=ended, summary=_end(training.status, ended))


def _end(status: str, ended: float) -> Any:
    """Do the same as `tensorboard.plugins.hparams.summary.session_end_pb`, whose module imports TensorFlow."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    outcome = api_pb2.STATUS_SUCCESS if status == "ok" else api_pb2.STATUS_FAILURE
    data = plugin_data_pb2.HParamsPluginData(
        session_end_info=plugin_data_pb2.SessionEndInfo(status=outcome, end_time_secs=ended)
    )
    value = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR
    )
    return Summary(value=[value])
