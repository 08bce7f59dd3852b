"""The sweep of chapter 4 in PyTorch: every run of a grid, with joblib or one after another.

    python sweep_with_pytorch.py --workers 2 --out DIR < SWEEP.json
    python sweep_with_pytorch.py --sequential --out DIR < SWEEP.json

SWEEP.json is what `cargo x peers sweep` sends on standard input:

    {"data": FOLDER with digits.csv and split.json, "epochs": 20, "width": 8, "seed": 0,
     "runs": [{"arch": "resnet18", "batch": 16, "learning_rate": 0.1}, ...]}

One JSON line comes back on standard output, the runs in the order that they were asked for:

    {"versions": {...}, "settings": {...}, "wall_seconds": s,
     "runs": [{"arch": A, "batch": B, "learning_rate": r, "seconds": s, "validation_accuracy": a}, ...]}

`--workers N` is joblib's own pool (loky) with N processes of one thread; each imports PyTorch
once. `--sequential` is one process with as many threads as PyTorch takes by itself.

Each run does what chapter 3 does: the same rows, a ResNet with the small stem, images moved by
up to a pixel, SGD with momentum and decay, a warm-up and a cosine, batches that are full; after
each epoch the accuracy on the validation rows, and a checkpoint of model and optimiser. Random
numbers differ, so two programs agree in how well they learn and not in the last digit.
"""

import argparse
import contextlib
import csv
import json
import math
import os
import sys
import time
from pathlib import Path

START = time.perf_counter()

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
CLASSES = 10
SIDE = 8
# Pixels that an image is moved by, at most, up or down and left or right.
SHIFT = 1
BLOCKS = {"resnet18": 8, "resnet34": 16}


def read_digits(folder):
    """Images f32 [N, 8, 8], normalised by the training rows, labels i64 [N], and the rows
    that train and validate."""
    import numpy as np

    with open(folder / "digits.csv", encoding="ascii", newline="") as file:
        table = np.array([[int(field) for field in row] for row in csv.reader(file)])
    with open(folder / "split.json", encoding="utf-8") as file:
        split = json.load(file)
    pixels = table[:, :-1].astype(np.float32)
    known = pixels[split["train"]]
    images = ((pixels - known.mean()) / known.std()).astype(np.float32).reshape(-1, SIDE, SIDE)
    return images, table[:, -1].astype(np.int64), split["train"], split["validation"]


def learning_rates(peak, steps):
    """The rate of each step: chapter 3's default warm-up, then half a cosine to 0."""
    warmup = min(100, steps // 10)
    rise = [peak * (step + 1) / (warmup + 1) for step in range(warmup)]
    return rise + [
        peak * 0.5 * (1 + math.cos(math.pi * done / (steps - warmup))) for done in range(steps - warmup)
    ]


def initialise(model):
    """Chapter 3's first weights: normal with fan-in for filters, PyTorch's own for the rest."""
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    nn.init.zeros_(model.fc.bias)


def save(path, model, optimizer, epoch):
    """A checkpoint, whole or not at all."""
    import torch

    partial = path.with_name(path.name + ".partial")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, partial)
    partial.replace(path)


def train(run, sweep, folder, parent):
    """Trains one run; returns it with its seconds and its last validation accuracy, and the
    number of threads.

    * `parent`: in a pool the process that waits for the answer; None without a pool
    """
    begin = time.perf_counter()
    import torch

    import resnet

    if parent is not None:
        torch.set_num_threads(1)
    torch.manual_seed(sweep["seed"])
    images, labels, train_rows, validation_rows = read_digits(Path(sweep["data"]))
    images, labels = torch.from_numpy(images), torch.from_numpy(labels)
    validation_images, validation_labels = images[validation_rows].unsqueeze(1), labels[validation_rows]
    images, labels = images[train_rows], labels[train_rows]
    # Every place that an image can be moved to, as views: [rows, down, right, side, side].
    places = torch.nn.functional.pad(images, [SHIFT] * 4).unfold(1, SIDE, 1).unfold(2, SIDE, 1)

    model = resnet.StemResNet(run["arch"], "small", sweep["width"], 1, CLASSES)
    initialise(model)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=run["learning_rate"], momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True
    )
    batch = run["batch"]
    whole = len(labels) // batch * batch
    rates = iter(learning_rates(run["learning_rate"], sweep["epochs"] * (whole // batch)))
    folder.mkdir(parents=True, exist_ok=True)
    accuracy = 0.0
    for epoch in range(sweep["epochs"]):
        model.train()
        order = torch.randperm(len(labels))[:whole]
        down, right = torch.randint(2 * SHIFT + 1, (2, whole))
        moved = places[order, down, right].unsqueeze(1).to(memory_format=torch.channels_last)
        for some_images, some_labels in zip(moved.split(batch), labels[order].split(batch)):
            optimizer.param_groups[0]["lr"] = next(rates)
            loss = torch.nn.functional.cross_entropy(model(some_images), some_labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            answers = model(validation_images).argmax(1)
        accuracy = (answers == validation_labels).float().mean().item()
        save(folder / "checkpoint.pt", model, optimizer, epoch + 1)
        if parent is not None and os.getppid() != parent:
            # Killed, for taking too long perhaps: the next contender wants the cores.
            os._exit(1)
    result = {"seconds": time.perf_counter() - begin, "validation_accuracy": accuracy}
    return run | result, torch.get_num_threads()


def expected_work(run):
    """Grows with a run's time: steps times blocks."""
    return BLOCKS[run["arch"]] / run["batch"]


def all_runs(sweep, workers, out):
    """Trains all runs; what `train` returns of each, in their order."""
    parent = None if workers is None else os.getpid()
    jobs = [(run, sweep, out / f"{number:02}", parent) for number, run in enumerate(sweep["runs"])]
    if workers is None:
        return [train(*job) for job in jobs]
    import joblib

    # Longest first, so that no process has a long run left when the others are done.
    order = sorted(range(len(jobs)), key=lambda number: -expected_work(jobs[number][0]))
    pool = joblib.Parallel(n_jobs=workers, backend="loky", batch_size=1)
    done = pool(joblib.delayed(train)(*jobs[number]) for number in order)
    return [result for _, result in sorted(zip(order, done), key=lambda pair: pair[0])]


def versions(workers):
    """Versions of what took part, without importing it."""
    from importlib.metadata import version

    names = ["torch", "torchvision", "numpy"] + ["joblib"] * (workers is not None)
    return {"python": ".".join(map(str, sys.version_info[:3]))} | {name: version(name) for name in names}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--workers", type=int, metavar="N", help="joblib with N processes of one thread")
    how.add_argument("--sequential", action="store_true", help="one process, PyTorch's own number of threads")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoints")
    arguments = parser.parse_args()
    # What libraries print goes to standard error; standard output is for the one line.
    with contextlib.redirect_stdout(sys.stderr):
        sweep = json.load(sys.stdin)
        done = all_runs(sweep, arguments.workers, arguments.out)
    settings = {
        "processes": str(arguments.workers or 1),
        "threads_per_process": "/".join(sorted({str(threads) for _, threads in done})),
        "mode": "eager", "layout": "channels-last", "optimizer": "sgd, fused",
    }
    answer = {
        "versions": versions(arguments.workers), "settings": settings,
        "wall_seconds": time.perf_counter() - START, "runs": [run for run, _ in done],
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
