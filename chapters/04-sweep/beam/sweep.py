"""The sweep of chapter 4 on Apache Beam: the same Rust worker, on any of Beam's engines.

    parallel-training plan > runs.jsonl
    python sweep.py --runs runs.jsonl --out FOLDER --result FOLDER/result.json [Beam's flags]

`--out` is where checkpoints and models go: a folder that all workers see, or a gs:// or s3://
URL. Beam's own flags choose the engine:

    --runner DirectRunner --direct_running_mode multi_processing --direct_num_workers 2
    --runner apache_beam.runners.dask.dask_runner.DaskRunner --dask_client_address tcp://HOST:PORT --dask_npartitions 6
    --runner DataflowRunner --project P --region R --temp_location gs://B/tmp ...

Exit codes: 0 all runs are done, 1 a run or the pipeline failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from rust_on_beam import engines, selection
from rust_on_beam.transforms import Gather, RustWorker, read_json, write_json
from rust_on_beam.worker_process import WorkerSettings


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Our flags, and those for Beam."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--runs", required=True, metavar="FILE", help="one run a line, as `plan` prints them; - is stdin"
    )
    parser.add_argument("--out", required=True, metavar="PLACE", help="folder or URL for checkpoints and models")
    parser.add_argument(
        "--together",
        type=int,
        default=1,
        metavar="N",
        help="runs that a worker gets at once: with those of one program it is compiled once [%(default)s]",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or tpu [%(default)s]")
    parser.add_argument("--plugin", metavar="FILE", help="a PJRT plugin, in place of the one that is found")
    parser.add_argument("--empty", action="store_true", help="answer without training, to measure what Beam costs")
    engines.add_worker_flags(parser, "parallel-training")
    arguments, beam_flags = parser.parse_known_args(argv)
    if arguments.together < 1:
        parser.error(f"--together {arguments.together}: expected 1 or more")
    for flag in ("program", "out", "result"):
        setattr(arguments, flag, engines.absolute(getattr(arguments, flag)))
    return arguments, beam_flags


def worker_settings(arguments: argparse.Namespace) -> WorkerSettings:
    """How a Rust worker is started for these flags."""
    # A run that nobody waits for would keep its folder from the worker that takes it up again.
    command = [arguments.program, "worker", "--with-parent", "--out", arguments.out]
    if arguments.empty:
        command.append("--empty")
    else:
        command += ["--progress", "--device", arguments.device]
        command += ["--plugin", arguments.plugin] if arguments.plugin else []
    return WorkerSettings(
        command=tuple(command),
        threads=arguments.threads,
        time_limit=arguments.time_limit,
        retries=arguments.retries,
    )


def read_runs(path: str) -> list[str]:
    """The lines of a file that are not blank, as they are: the worker judges them."""
    text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8", errors="replace")
    return [line for line in text.split("\n") if line.strip()]


def elements(runs: list[str], together: int) -> list[str]:
    """What is dealt out: so many lines at once, in the order of `plan`, where a program's runs stand
    one after another."""
    return ["\n".join(runs[first : first + together]) for first in range(0, len(runs), together)]


# ANCHOR: pipeline
def build(pipeline: beam.Pipeline, runs: list[str], arguments: argparse.Namespace) -> None:
    """Runs in, one result out. One line of steps with one sink: of two, Dask's runner would compute
    the last alone. (A default for no runs at all would be a branch, too.)"""
    train = engines.with_hints(beam.ParDo(RustWorker(worker_settings(arguments))), arguments)
    _ = (
        pipeline
        | "Runs" >> beam.Create(elements(runs, arguments.together), reshuffle=False)
        | "One by one" >> beam.Reshuffle()
        | "Train" >> train
        | "Gather" >> beam.CombineGlobally(Gather(selection.result_of)).without_defaults()
        | "Write" >> beam.Map(write_json, arguments.result)
    )


# ANCHOR_END: pipeline


def tell(result: dict, arguments: argparse.Namespace) -> None:
    """Prints the counts and the winner."""
    counts = {name: result[name] for name in ("schema_version", "winner", "done", "failed", "workers")}
    if arguments.json:
        print(json.dumps(counts | {"result": arguments.result}))
        return
    for row in result["runs"]:
        if row["status"] != "done":
            print(f"{row['status']}: {row['id']}: {row.get('message', 'no reason given')}")
    print(f"{result['done']} runs done, {result['failed']} failed, by {result['workers']} worker processes")
    print(f"winner: {result['winner'] or 'none, every run failed'}; all rows: {arguments.result}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the pipeline to its end; returns the exit code."""
    arguments, beam_flags = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    runs = read_runs(arguments.runs)
    if not runs:
        print(f"error: {arguments.runs} has no run; `parallel-training plan` prints some", file=sys.stderr)
        return 2
    engines.share_modules()
    with beam.Pipeline(options=PipelineOptions(beam_flags)) as pipeline:
        build(pipeline, runs, arguments)
    result = read_json(arguments.result)
    tell(result, arguments)
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
