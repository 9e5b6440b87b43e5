"""Event files of TensorBoard as bytes: what is said becomes records of a file that others publish or append to.

tensorboardX knows the forms of summaries; its writer is not used, as it writes from a process and a thread of its own,
which die of a full disk, and whoever has more to write waits for them for ever.
"""

import struct
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

EVENTS = "events.out.tfevents.*"  # how such files are called
Layout = dict[str, dict[str, Any]]  # of custom charts: {category: {chart: [kind, tags]}}


def event_file_name() -> str:
    """A new name; TensorBoard reads the files of a folder in the order of their names."""
    seconds, rest = divmod(time.time_ns(), 10**9)
    return f"events.out.tfevents.{seconds:010d}.{rest:09d}.icrl"


class EventRecords:
    """Records of an event file, gathered until they are ``taken``.

    The first ones tell whoever watches to forget what an older file of the same folder has shown.
    """

    def __init__(self) -> None:
        # imported here: it pulls in torch where that is installed, which takes a second
        from tensorboardX import summary
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._event, self._summary, self._data = Event, summary, bytearray()
        self._add(file_version="brain.Event:2")
        self._add(session_log=SessionLog(status=SessionLog.START), step=0)

    def scalar(self, tag: str, value: float, step: int) -> None:
        """One point of a curve."""
        self._add(summary=self._summary.scalar(tag, value), step=step)

    def image(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """A picture [height, width, 3] uint8."""
        self._add(summary=self._summary.image(tag, pixels, dataformats="HWC"), step=step)

    def text(self, tag: str, markdown: str, step: int) -> None:
        """A text in Markdown."""
        self._add(summary=self._summary.text(tag, markdown), step=step)

    def custom_charts(self, layout: Layout) -> None:
        """Which tags stand together in which chart."""
        self._add(summary=self._summary.custom_scalars(layout))

    def hyperparameters(self, settings: Mapping[str, Any], metrics: list[str]) -> None:
        """The settings of the run and the tags of the metrics that they are compared by."""
        for said in self._summary.hparams(dict(settings), dict.fromkeys(metrics, 0.0))[:2]:
            self._add(summary=said)

    def taken(self) -> bytes:
        """What was gathered since the last call."""
        data, self._data = bytes(self._data), bytearray()
        return data

    def _add(self, **fields: Any) -> None:
        """One record: its length, its bytes, and a checksum of each."""
        from tensorboardX.record_writer import masked_crc32c

        record = self._event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(record))
        self._data += length + struct.pack("<I", masked_crc32c(length))
        self._data += record + struct.pack("<I", masked_crc32c(record))
