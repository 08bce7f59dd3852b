"""Shards of image paths: what a worker is asked, and what is counted of its answers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rust_on_beam.selection import Row

EXTENSIONS = (".jpg", ".jpeg", ".png")
# Bad images that are named in the result; all of them are in the shards' own files.
BAD_SHOWN = 100


def images_below(folder: Path) -> tuple[list[str], int]:
    """Paths of the pictures below a folder, relative to it and sorted, and how many were left out.

    Names alone decide. Left out are those that are not UTF-8: JSON has no words for them.
    """
    paths, left_out = [], 0
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith(".") or not name.lower().endswith(EXTENSIONS):
                continue
            path = (Path(place) / name).relative_to(folder).as_posix()
            if _is_utf8(path):
                paths.append(path)
            else:
                left_out += 1
    return sorted(paths), left_out


def requests(paths: Sequence[str], size: int) -> list[str]:
    """One line of JSON for each `size` paths."""
    starts = range(0, len(paths), size)
    shards = [{"id": f"shard-{number:05}", "paths": paths[at : at + size]} for number, at in enumerate(starts)]
    return [json.dumps(shard) for shard in shards]


def lines_of(row: Row) -> str:
    """A shard's answers, one image a line: its classes, or the reason why there are none."""
    images = row["predictions"] + row["bad"]
    return "".join(json.dumps(image) + "\n" for image in sorted(images, key=lambda image: image["path"]))


def counts_of(row: Row) -> Row:
    """The row of a shard without its predictions: what goes on to the one result."""
    counts = {name: row.get(name) for name in ("status", "id", "worker", "attempts")}
    if row["status"] != "done":
        return counts | {"message": row.get("message", row["status"])}
    return counts | {"predicted": len(row["predictions"]), "bad": row["bad"]}


def result_of(rows: Iterable[Row]) -> dict[str, Any]:
    """All shards in one result, whatever the order they came in."""
    rows = sorted(rows, key=lambda row: row["id"])
    done = [row for row in rows if row["status"] == "done"]
    bad = sorted((image for row in done for image in row["bad"]), key=lambda image: image["path"])
    return {
        "schema_version": 1,
        "images": sum(row["predicted"] for row in done) + len(bad),
        "predicted": sum(row["predicted"] for row in done),
        "bad": len(bad),
        "workers": len({row["worker"] for row in rows if row["worker"]}),
        "shards": len(rows),
        "failed_shards": [row for row in rows if row["status"] != "done"],
        "bad_images": bad[:BAD_SHOWN],
    }


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
