"""What can be checked of Dataflow without Dataflow: the options of the book's page parse, and the
hints and the container stand in the pipeline that would be sent. Nothing is run."""

import unittest

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.transforms import environments

import sweep

IMAGE = "europe-docker.pkg.dev/project/repository/worker:1"

# ANCHOR: common
COMMON = [
    "--runner=DataflowRunner",
    "--project=PROJECT",
    "--region=us-central1",
    "--temp_location=gs://BUCKET/tmp",
    f"--sdk_container_image={IMAGE}",
    "--experiments=no_use_multiple_sdk_containers",
    "--number_of_worker_harness_threads=1",
]
# ANCHOR_END: common

# ANCHOR: gpu
GPU = [
    "--machine_type=g2-standard-4",
    "--dataflow_service_options=worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver",
]
# ANCHOR_END: gpu

# ANCHOR: tpu
TPU = [
    "--machine_type=ct5lp-hightpu-1t",
    "--dataflow_service_options=worker_accelerator=type:tpu-v5-lite-podslice;topology:1x1",
]
# ANCHOR_END: tpu

# ANCHOR: right-fitting
RIGHT_FITTING = [
    "--accelerator=type:nvidia-l4;count:1;install-nvidia-driver",
    "--min_ram=8GB",
]
# ANCHOR_END: right-fitting

OURS = [
    "--runs=runs.jsonl",
    "--out=gs://BUCKET/runs",
    "--result=gs://BUCKET/result.json",
    "--program=/opt/accelerators/bin/parallel-training",
]


def options(flags: list[str]) -> PipelineOptions:
    """Beam's own part of the flags; a flag that Beam does not know fails."""
    _, beam_flags = sweep.parse(OURS + flags)
    parsed = PipelineOptions(beam_flags)
    unknown = parsed.get_all_options(retain_unknown_options=True).keys() - parsed.get_all_options().keys()
    assert not unknown, unknown
    return parsed


def proto(flags: list[str]) -> beam_runner_api_pb2.Pipeline:
    """The pipeline as it would be sent, with Dataflow's kind of environment."""
    ours, beam_flags = sweep.parse(OURS + flags)
    image = PipelineOptions(beam_flags).view_as(WorkerOptions).sdk_container_image
    pipeline = beam.Pipeline(runner="DirectRunner")
    sweep.build(pipeline, ['{"id": "a"}'], ours)
    environment = environments.DockerEnvironment.from_container_image(image)
    return pipeline.to_runner_api(default_environment=environment)


def environment_of(pipeline: beam_runner_api_pb2.Pipeline, name: str) -> beam_runner_api_pb2.Environment:
    """The environment of the step with this name."""
    [step] = [t for t in pipeline.components.transforms.values() if t.unique_name == name]
    return pipeline.components.environments[step.environment_id]


class Dataflow(unittest.TestCase):
    def test_the_common_options_parse(self):
        parsed = options(COMMON)
        self.assertEqual(parsed.view_as(StandardOptions).runner, "DataflowRunner")
        self.assertEqual(parsed.view_as(GoogleCloudOptions).region, "us-central1")
        self.assertEqual(parsed.view_as(WorkerOptions).sdk_container_image, IMAGE)
        self.assertIn("no_use_multiple_sdk_containers", parsed.view_as(DebugOptions).experiments)
        self.assertEqual(parsed.view_as(DebugOptions).number_of_worker_harness_threads, 1)

    def test_accelerators_for_the_whole_job_parse(self):
        for flags in (GPU, TPU):
            parsed = options(COMMON + flags)
            machine, accelerator = (flag.split("=", 1)[1] for flag in flags)
            self.assertEqual(parsed.view_as(WorkerOptions).machine_type, machine)
            self.assertEqual(parsed.view_as(GoogleCloudOptions).dataflow_service_options, [accelerator])

    def test_hints_and_container_stand_in_the_pipeline(self):
        environment = environment_of(proto(COMMON + RIGHT_FITTING), "Train")
        hints = {urn.split(":")[-2]: value for urn, value in environment.resource_hints.items()}
        self.assertEqual(hints["accelerator"], b"type:nvidia-l4;count:1;install-nvidia-driver")
        self.assertEqual(int(hints["min_ram_bytes"]), 8 * 10**9)
        self.assertEqual(environment.urn, common_urns.environments.DOCKER.urn)
        payload = beam_runner_api_pb2.DockerPayload.FromString(environment.payload)
        self.assertEqual(payload.container_image, IMAGE)

    def test_without_hints_there_are_none(self):
        environment = environment_of(proto(COMMON), "Train")
        self.assertEqual(dict(environment.resource_hints), {})


if __name__ == "__main__":
    unittest.main()
