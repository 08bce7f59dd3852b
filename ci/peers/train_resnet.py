"""One contender of `cargo x peers train`: JAX or PyTorch training a ResNet.

    python train_resnet.py worker
    python train_resnet.py prepare --data digits --width 16 --image 8 --channels 1 --batch 64 --out DIR

`worker` reads one JSON object a line on standard input and answers one a line
on standard output (protocol.py):

    {"load": {"engine": E, "arch": "resnet18", "stem": "small", "width": 16, "image": 8,
              "channels": 1, "classes": 10, "batch": 64, "weights": PATH, "data": PATH,
              "precision": "f32"|"bf16", "optimizer": {"kind": "sgd", "learning_rate": 0.05,
              "momentum": 0.9, "weight_decay": 0.0005}, "steps_per_sample": 16,
              "threads": 2, "device": "cpu"|"cuda"}}
        -> {"loaded": {"versions": {...}, "seconds": s, "compile_seconds": s or absent,
                       "settings": {...}}}
    {"run": {"warmup": 1, "samples": 5}}  -> {"seconds": [...], "loss": x}
    {"losses": {"steps": 16}}             -> {"losses": [...], "norms": {"learned": x, "running": y}}
    anything that fails                   -> {"error": "..."}, with "unsupported": true where
                                             the engine has no such feature here

`cargo x peers train` asks the program of chapter 3 the same.

What all of them do, so that their losses agree:

- Weights come from `weights` (torchvision's names, OIHW), images and labels from `data`
  ("images" f32 NHWC, "labels" i32, a whole number of batches). The batch of step s is
  rows (s * batch + j) mod N, j = 0..batch: no shuffling, nothing augmented.
- Loss: mean cross-entropy. Batch norm in training mode, eps 1e-5; running statistics are
  updated in every step by 0.1 of the batch's, the variance being the unbiased one.
- SGD as torch.optim.SGD: decay is added to the gradient of every learned parameter, batch
  norms and bias included; speed = momentum * speed + gradient; weight -= rate * speed.

A sample is `steps_per_sample` steps. It begins with weights, speeds and data on the device
and ends when all its losses are in host memory and the last update is done. Training goes
on from sample to sample. `losses` begins anew from the weights file and answers each
step's loss before its update; the norms are of all learned tensors and of all running
statistics after the last one.

`prepare` writes the two files. Digits are the training rows of shared/data/digits, as far
as they fill batches, scaled by the mean and deviation of all training rows; random images
and labels come from seeded_weights.py.
"""

import argparse
import csv
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import safetensors.numpy

import protocol
from seeded_weights import hash_units, seeded_tensor
from train_with_jax import Jax
from train_with_pytorch import PyTorch

SEED = 0
CLASSES = 10
DIGITS = Path(__file__).resolve().parents[2] / "shared/data/digits"
# Rows of random data: enough that their 12 MB at 32x32 do not stay in a cache.
RANDOM_ROWS = 1024


# These modules leave JAX and PyTorch to be imported by the engine that is loaded.
ENGINES = {
    "jax-step": Jax,
    "jax-scan": Jax,
    "pytorch-eager": PyTorch,
    "pytorch-channels-last": PyTorch,
    "pytorch-compile": PyTorch,
}


def check_load(spec):
    """Raises ValueError that names the first field that is missing or wrong."""
    texts = ("engine", "arch", "stem", "weights", "data", "precision", "device")
    counts = ("width", "image", "channels", "classes", "batch", "steps_per_sample", "threads")
    protocol.check_fields("load", spec, dict.fromkeys(texts, str) | dict.fromkeys(counts, int))
    for key, expected in (
        ("engine", ENGINES), ("precision", ("f32", "bf16")), ("device", ("cpu", "cuda")),
        ("arch", ("resnet18", "resnet34")), ("stem", ("small",)),
    ):
        if spec[key] not in expected:
            raise ValueError(f"load: unknown {key} {spec[key]!r}: expected one of {', '.join(expected)}")
    optimizer = spec.get("optimizer")
    if not isinstance(optimizer, dict) or optimizer.get("kind") != "sgd":
        raise ValueError(f"load: 'optimizer' must be an object of kind sgd, got {json.dumps(optimizer)}")
    protocol.check_fields("optimizer", optimizer, dict.fromkeys(("learning_rate", "momentum", "weight_decay"), float))


def read_data(spec):
    """Images f32 NHWC and labels i32 of the data file, checked against the load message."""
    tensors = safetensors.numpy.load_file(spec["data"])
    images, labels = tensors["images"], tensors["labels"]
    expected = (len(labels), spec["image"], spec["image"], spec["channels"])
    if images.shape != expected or images.dtype != np.float32:
        raise ValueError(f"data: expected f32 {list(expected)}, got {images.dtype} {list(images.shape)}")
    if len(labels) == 0 or len(labels) % spec["batch"] != 0:
        raise ValueError(f"data: expected a whole number of batches of {spec['batch']}, got {len(labels)} rows")
    if labels.dtype != np.int32 or labels.min() < 0 or labels.max() >= spec["classes"]:
        raise ValueError(f"data: expected i32 labels below {spec['classes']}")
    return images, labels


class Worker:
    """Answers the messages of the protocol, one engine at a time.

    An engine has `reset()`, `steps(n)` (the losses of n steps as an f32 array, the last
    update done), `parameters()` ({torchvision's name: f32 array}), `compile_seconds`,
    `versions` and `settings`.
    """

    def __init__(self):
        self.engine = None
        self.spec = None

    def answer(self, message):
        if not isinstance(message, dict) or len(message) != 1:
            raise ValueError("expected an object with one key: load, run or losses")
        (kind, body), = message.items()
        if kind not in ("load", "run", "losses") or not isinstance(body, dict):
            raise ValueError(f"expected an object under load, run or losses, got {kind!r}")
        if kind == "load":
            return self.load(body)
        if self.engine is None:
            raise ValueError(f"{kind!r} came before a model was loaded")
        return self.run(body) if kind == "run" else self.losses(body)

    def load(self, spec):
        check_load(spec)
        start = time.perf_counter()
        self.engine = None
        images, labels = read_data(spec)
        weights = safetensors.numpy.load_file(spec["weights"])
        self.engine = ENGINES[spec["engine"]](spec, weights, images, labels)
        self.spec = spec
        versions = {"python": ".".join(map(str, sys.version_info[:3])), "numpy": np.__version__}
        loaded = {
            "versions": versions | self.engine.versions,
            "seconds": time.perf_counter() - start,
            "settings": self.engine.settings,
        }
        if self.engine.compile_seconds is not None:
            loaded["compile_seconds"] = self.engine.compile_seconds
        return {"loaded": loaded}

    def run(self, body):
        counts = protocol.run_counts(body)
        steps = self.spec["steps_per_sample"]
        losses = [0.0]
        for _ in range(counts["warmup"]):
            self.engine.steps(steps)
        seconds = []
        for _ in range(counts["samples"]):
            start = time.perf_counter()
            losses = self.engine.steps(steps)
            seconds.append(time.perf_counter() - start)
        loss = float(losses[-1])
        if not math.isfinite(loss):
            raise ValueError(f"the loss is {loss}")
        return {"seconds": seconds, "loss": loss}

    def losses(self, body):
        protocol.check_fields("losses", body, {"steps": int})
        if body["steps"] % self.spec["steps_per_sample"] != 0:
            raise ValueError(f"losses: 'steps' must be a multiple of {self.spec['steps_per_sample']}")
        self.engine.reset()
        losses = []
        while len(losses) < body["steps"]:
            losses += [float(loss) for loss in self.engine.steps(self.spec["steps_per_sample"])]
        if not all(map(math.isfinite, losses)):
            raise ValueError("the losses are not all finite")
        squares = {"learned": 0.0, "running": 0.0}
        for name, values in self.engine.parameters().items():
            kind = "running" if "running" in name else "learned"
            squares[kind] += float(np.square(values, dtype=np.float64).sum())
        return {"losses": losses, "norms": {kind: math.sqrt(sum_) for kind, sum_ in squares.items()}}


def digits(batch):
    """Training rows of the digits, whole batches: images f32 [N, 8, 8, 1], labels i32 [N]."""
    with open(DIGITS / "digits.csv", encoding="ascii", newline="") as file:
        table = np.array([[int(field) for field in row] for row in csv.reader(file)])
    with open(DIGITS / "split.json", encoding="utf-8") as file:
        rows = json.load(file)["train"]
    pixels = table[rows, :-1] / 16
    images = ((pixels - pixels.mean()) / pixels.std()).astype(np.float32).reshape(-1, 8, 8, 1)
    whole = len(rows) // batch * batch
    return images[:whole], table[rows, -1].astype(np.int32)[:whole]


def random_data(image, channels, batch):
    """Images f32 [N, image, image, channels] in [-2, 2), labels i32 [N]."""
    rows = max(RANDOM_ROWS // batch, 1) * batch
    units = hash_units(SEED, "labels", rows)
    labels = np.minimum((units + 1) / 2 * CLASSES, CLASSES - 1).astype(np.int32)
    return seeded_tensor(SEED, "input", (rows, image, image, channels)), labels


def weight_shapes(arch, width, channels):
    """{name: shape} of a ResNet with the small stem, by torchvision's names."""
    blocks = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}[arch]
    shapes = {"conv1.weight": (width, channels, 3, 3)}

    def norm(name, features):
        for kind in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{kind}"] = (features,)

    norm("bn1", width)
    features = width
    for stage, count in enumerate(blocks):
        planes = width * 2**stage
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            shapes[f"{name}.conv1.weight"] = (planes, features, 3, 3)
            norm(f"{name}.bn1", planes)
            shapes[f"{name}.conv2.weight"] = (planes, planes, 3, 3)
            norm(f"{name}.bn2", planes)
            if stage > 0 and block == 0:
                shapes[f"{name}.downsample.0.weight"] = (planes, features, 1, 1)
                norm(f"{name}.downsample.1", planes)
            features = planes
    shapes |= {"fc.weight": (CLASSES, features), "fc.bias": (CLASSES,)}
    return shapes


def prepare(arguments):
    """Writes weights.safetensors and data.safetensors, each whole or not at all."""
    if arguments.data == "digits":
        if (arguments.image, arguments.channels) != (8, 1):
            raise SystemExit("--data digits: the digits are 8x8 with 1 channel")
        images, labels = digits(arguments.batch)
    else:
        images, labels = random_data(arguments.image, arguments.channels, arguments.batch)
    shapes = weight_shapes(arguments.arch, arguments.width, arguments.channels)
    weights = {name: seeded_tensor(SEED, name, shape) for name, shape in shapes.items()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, tensors in (("weights", weights), ("data", {"images": images, "labels": labels})):
        path = arguments.out / f"{name}.safetensors"
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        safetensors.numpy.save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, partial)
        partial.replace(path)


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("worker", help="answer the measurement protocol on standard input")
    command = commands.add_parser("prepare", help="write the weights and the data that all contenders share")
    command.add_argument("--data", required=True, choices=("digits", "random"))
    command.add_argument("--arch", default="resnet18", choices=("resnet18", "resnet34"))
    for name in ("width", "image", "channels", "batch"):
        command.add_argument(f"--{name}", type=int, required=True)
    command.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "worker":
        return protocol.serve(Worker())
    prepare(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
