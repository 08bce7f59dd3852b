"""What a request to a Rust worker costs: runs that train nothing, asked from Python.

    parallel-training plan ... > runs.jsonl
    python overhead.py --program FILE --runs runs.jsonl --rounds 5

One JSON line on stdout: {"versions": {...}, "elements": N, "seconds": [a round's, ...]}. The
process is started once, before the rounds; Beam takes no part. `cargo x peers beam` runs it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

from rust_on_beam.worker_process import WatchedWorker, WorkerSettings


def main() -> int:
    """Asks for every run once a round; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--runs", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    lines = arguments.runs.read_text(encoding="utf-8").splitlines()
    worker = WatchedWorker(WorkerSettings(command=(arguments.program, "worker", "--empty", "--with-parent")))
    worker.start()
    seconds = []
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        rows = [worker.row(line) for line in lines]
        seconds.append(time.perf_counter() - start)
        failed = [row for row in rows if row["status"] != "done"]
        if failed:
            print(f"error: {len(failed)} of {len(lines)} empty runs failed: {failed[0]}", file=sys.stderr)
            return 1
    worker.end()
    versions = {"python": platform.python_version(), "apache-beam": version("apache-beam")}
    print(json.dumps({"versions": versions, "elements": len(lines), "seconds": seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
