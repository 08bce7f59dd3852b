"""The rows of a sweep in one result, the best first.

The order is that of `chapters/04-sweep/src/selection.rs`: a run's row is the same on every
machine, so the winner is the same on every engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]


# ANCHOR: better
def better_first(row: Row) -> tuple[float, float, str]:
    """Sorts runs that are done: more right answers on the validation rows; of equals the smaller
    validation loss; of equals the id that comes first in the alphabet."""
    validation = row["validation"]
    return (-validation["accuracy"], validation["loss"], row["id"])


# ANCHOR_END: better


def result_of(rows: Iterable[Row]) -> dict[str, Any]:
    """All rows, runs that are done before those that failed, and the best run's id.

    The same rows give the same result in whatever order they come: an engine promises none.
    """
    rows = list(rows)
    done = sorted((row for row in rows if row["status"] == "done"), key=better_first)
    # Lines that are no run may have the same id, or none.
    failed = sorted((row for row in rows if row["status"] != "done"), key=lambda row: (row["id"], str(row)))
    return {
        "schema_version": 1,
        "winner": done[0]["id"] if done else None,
        "done": len(done),
        "failed": len(failed),
        "workers": len({row["worker"] for row in rows if row["worker"]}),
        "runs": done + failed,
    }
