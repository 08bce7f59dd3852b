"""What the engines must be told: where these modules lie, and what a step needs.

Which engine it is, and how it is set up, is a matter of Beam's own flags (`--runner` and so on).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TypeVar

import apache_beam as beam

FOLDER = Path(__file__).resolve().parent.parent
ROOT = FOLDER.parents[2]

T = TypeVar("T", bound=beam.PTransform)


def share_modules() -> None:
    """Lets the processes that an engine starts here import these modules.

    Workers that somebody else starts (of a Dask cluster, in a container) need this folder in
    their own `PYTHONPATH`.
    """
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER)] + ([known] if known else []))


def absolute(place: str) -> str:
    """A folder or file as every process here finds it, wherever that runs; a URL as it is."""
    return place if "://" in place else os.path.abspath(place)


def add_worker_flags(parser: argparse.ArgumentParser, package: str) -> None:
    """The flags about Rust workers, the same for both pipelines."""
    parser.add_argument(
        "--program",
        default=str(ROOT / "target/release" / package),
        metavar="FILE",
        help="the Rust program, as the engine's workers see it [%(default)s]",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="threads of each Rust process; 0: it decides [%(default)s]",
    )
    parser.add_argument(
        "--time_limit",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="longest time for one element; then its process is ended [%(default)s]",
    )
    parser.add_argument(
        "--retries",
        type=int,
        default=2,
        metavar="N",
        help="more attempts at an element whose process died or fell silent [%(default)s]",
    )
    parser.add_argument("--result", required=True, metavar="PATH", help="where the result is written: one JSON file")
    parser.add_argument(
        "--accelerator",
        metavar="HINT",
        help="resource hint of the step with the Rust processes: type:nvidia-l4;count:1;install-nvidia-driver",
    )
    parser.add_argument("--min_ram", metavar="SIZE", help="resource hint of the same step: 8GB")
    parser.add_argument("--json", action="store_true", help="print the counts as one JSON object")


# ANCHOR: hints
def with_hints(step: T, arguments: argparse.Namespace) -> T:
    """The step with the resource hints that were asked for: engines that know none pass over them."""
    hints = {"accelerator": arguments.accelerator, "min_ram": arguments.min_ram}
    return step.with_resource_hints(**{name: value for name, value in hints.items() if value})


# ANCHOR_END: hints
