"""The steps of the pipelines: a DoFn that asks a Rust worker, CombineFns, one sink."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from rust_on_beam import shards
from rust_on_beam.selection import Row
from rust_on_beam.worker_process import WatchedWorker, WorkerSettings


# ANCHOR: dofn
class RustWorker(beam.DoFn):
    """Hands each line of an element, JSON, to a Rust process, and yields the row that comes back.

    What failed is a row, too: an exception would fail the whole pipeline.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings

    def setup(self) -> None:
        """Starts the process. An engine calls it once for each of its own workers."""
        self._worker = WatchedWorker(self._settings)
        self._worker.start()

    def process(self, lines: str) -> Iterator[Row]:
        """Asks the process for one element, line by line."""
        for line in lines.split("\n"):
            yield self._worker.row(line)

    def teardown(self) -> None:
        """Ends the process. Where an engine leaves this out, it ends at the end of its input."""
        self._worker.end()


# ANCHOR_END: dofn


class Gather(beam.CombineFn):
    """All rows in one result. The order in which they come must not show in it."""

    def __init__(self, result_of: Callable[[Iterable[Row]], dict[str, Any]]) -> None:
        """* `result_of`: makes the result of all rows."""
        self._result_of = result_of

    def create_accumulator(self) -> list[Row]:
        """No rows."""
        return []

    def add_input(self, rows: list[Row], row: Row) -> list[Row]:
        """One more row."""
        rows.append(row)
        return rows

    def merge_accumulators(self, several: Iterable[list[Row]]) -> list[Row]:
        """Rows that were gathered apart."""
        return [row for rows in several for row in rows]

    def extract_output(self, rows: list[Row]) -> dict[str, Any]:
        """The result."""
        return self._result_of(rows)


def write_text(text: str, path: str) -> str:
    """Writes a file, whole or not at all; a gs:// or s3:// URL is a place, too."""
    partial = f"{path}.{uuid.uuid4().hex[:8]}.partial"
    with FileSystems.create(partial, "application/octet-stream") as file:
        file.write(text.encode())
    if FileSystems.exists(path):
        # Of an attempt whose answer was lost on its way.
        FileSystems.delete([path])
    FileSystems.rename([partial], [path])
    return path


def keep_predictions(row: Row, folder: str) -> Row:
    """Writes a shard's predictions into a file of its own, and passes on what is to be counted.

    The same shard has the same file: one that is worked on twice is there once.
    """
    if row["status"] == "done":
        write_text(shards.lines_of(row), FileSystems.join(folder, f"{row['id']}.jsonl"))
    return shards.counts_of(row)


def write_json(content: dict[str, Any], path: str) -> str:
    """The sink: writes the one result."""
    return write_text(json.dumps(content, indent=1) + "\n", path)


def read_json(path: str) -> dict[str, Any]:
    """What `write_json` wrote."""
    with FileSystems.open(path) as file:
        return json.loads(file.read())
