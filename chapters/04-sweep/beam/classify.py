"""Bulk inference on Apache Beam: chapter 1's program as a worker over shards of pictures.

    python classify.py --images FOLDER --out FOLDER --result FILE [Beam's flags]

Each shard's predictions go to a file of their own below `--out`; `--result` gets the counts and
the bad pictures. Each Rust process reads the model once. Beam's own flags choose the engine; see
sweep.py.

Exit codes: 0 each picture has a prediction, 1 there are bad ones, or the pipeline failed, 2 wrong
usage.
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

from rust_on_beam import engines, shards
from rust_on_beam.transforms import Gather, RustWorker, keep_predictions, read_json, write_json
from rust_on_beam.worker_process import WorkerSettings

LOG = logging.getLogger(__name__)


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Our flags, and those for Beam."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--images", required=True, type=Path, metavar="FOLDER", help="folder that all workers see")
    parser.add_argument("--out", required=True, metavar="PLACE", help="folder or URL for the shards' predictions")
    parser.add_argument("--weights", metavar="WEIGHTS", help="as `cpu-inference run` takes them [imagenet]")
    parser.add_argument("--arch", help="as `cpu-inference run` takes it")
    parser.add_argument("--shard", type=int, default=256, metavar="N", help="pictures in a shard [%(default)s]")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="most pictures in a batch [%(default)s]")
    engines.add_worker_flags(parser, "cpu-inference")
    arguments, beam_flags = parser.parse_known_args(argv)
    if arguments.shard < 1:
        parser.error(f"--shard {arguments.shard}: expected 1 or more")
    for flag in ("program", "out", "result"):
        setattr(arguments, flag, engines.absolute(getattr(arguments, flag)))
    return arguments, beam_flags


def worker_settings(arguments: argparse.Namespace) -> WorkerSettings:
    """How a Rust worker is started for these flags."""
    command = [arguments.program, "shards", "--root", str(arguments.images.resolve())]
    command += ["--batch", str(arguments.batch)]
    for flag, value in (("--weights", arguments.weights), ("--arch", arguments.arch)):
        command += [flag, value] if value else []
    if arguments.threads:
        command += ["--threads", str(arguments.threads)]
    return WorkerSettings(
        command=tuple(command),
        threads=arguments.threads,
        time_limit=arguments.time_limit,
        retries=arguments.retries,
    )


# ANCHOR: pipeline
def build(pipeline: beam.Pipeline, lines: list[str], arguments: argparse.Namespace) -> None:
    """Shards in, one result out; predictions are too many to be gathered, so each shard has a file."""
    classify = engines.with_hints(beam.ParDo(RustWorker(worker_settings(arguments))), arguments)
    _ = (
        pipeline
        | "Shards" >> beam.Create(lines, reshuffle=False)
        | "One by one" >> beam.Reshuffle()
        | "Classify" >> classify
        | "Keep" >> beam.Map(keep_predictions, arguments.out)
        | "Count" >> beam.CombineGlobally(Gather(shards.result_of)).without_defaults()
        | "Write" >> beam.Map(write_json, arguments.result)
    )


# ANCHOR_END: pipeline


def tell(result: dict, arguments: argparse.Namespace) -> None:
    """Prints the counts and what went wrong."""
    if arguments.json:
        print(json.dumps(result | {"result": arguments.result}))
        return
    for image in result["bad_images"]:
        print(f"bad: {image['path']}: {image['error']}")
    for shard in result["failed_shards"]:
        print(f"failed: {shard['id']}: {shard['message']}")
    print(
        f"{result['predicted']} of {result['images']} pictures classified, {result['bad']} bad, "
        f"{len(result['failed_shards'])} of {result['shards']} shards failed, "
        f"by {result['workers']} worker processes; predictions: {arguments.out}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the pipeline to its end; returns the exit code."""
    arguments, beam_flags = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    if not arguments.images.is_dir():
        print(f"error: {arguments.images}: no such folder; give a folder of JPEG or PNG files", file=sys.stderr)
        return 2
    paths, left_out = shards.images_below(arguments.images)
    if left_out:
        LOG.warning("%d names are not UTF-8; those pictures are left out", left_out)
    if not paths:
        print(f"error: {arguments.images} has no JPEG or PNG file", file=sys.stderr)
        return 2
    engines.share_modules()
    with beam.Pipeline(options=PipelineOptions(beam_flags)) as pipeline:
        build(pipeline, shards.requests(paths, arguments.shard), arguments)
    result = read_json(arguments.result)
    tell(result, arguments)
    return 1 if result["bad"] or result["failed_shards"] or left_out else 0


if __name__ == "__main__":
    sys.exit(main())
