"""Writes the reference logits of ResNet-18, 34 and 50, with both stems, for `cargo test`.

    python resnet_reference.py [--out chapters/01-cpu/tests/reference/resnet_logits.json]

Weights and inputs come from the hash in seeded_weights.py, with seed 0, so the
file holds only what a test compares:

- `probes`: the first elements of some tensors, and the SHA-256 of all of them,
  for whoever writes the hash again in another language. The digest runs over
  the tensors sorted by name, each as little-endian f32 in row-major order.
- `cases`: per network the shape of its input and the logits, `[batch, classes]`.
  The logits were computed in f64 from the f32 weights, so that they do not
  depend on a CPU's order of summation; `f32_max_relative_difference` says how
  far this PyTorch's own f32 was from them, relative to the largest |logit|.

The ImageNet stem is run at 64x64 with 1000 classes as torchvision has them, the
small stem at 32x32 with 10, as CIFAR-10 has.
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch

import resnet
from seeded_weights import seeded_tensor

SEED = 0
ROOT = Path(__file__).resolve().parents[2]
# stem: (classes, shape of the input, NCHW)
STEMS = {"imagenet": (1000, (2, 3, 64, 64)), "small": (10, (2, 3, 32, 32))}
PROBES = ("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "fc.weight", "fc.bias")


def digest(arrays):
    sha256 = hashlib.sha256()
    for name in sorted(arrays):
        sha256.update(arrays[name].astype("<f4").tobytes())
    return sha256.hexdigest()


def significant(value, digits=9):
    """`value` with `digits` significant digits: f32 has 7 to 9."""
    return float(f"{value:.{digits}g}")


def case(arch, stem):
    classes, shape = STEMS[stem]
    model = resnet.StemResNet(arch, stem, classes=classes)
    arrays = resnet.seeded_weights(model, SEED)
    resnet.load_arrays(model, arrays)
    images = seeded_tensor(SEED, "input", shape)
    with torch.no_grad():
        single = model(torch.from_numpy(images)).double()
        logits = model.double()(torch.from_numpy(images).double())
    largest = logits.abs().max()
    difference = ((single - logits).abs().max() / largest).item()
    if not difference < 1e-5:
        raise SystemExit(f"{arch} {stem}: f32 is {difference:.1e} from f64; expected under 1e-5")
    return {
        "arch": arch,
        "stem": stem,
        "classes": classes,
        "input_shape": list(shape),
        "input_probe": [float(v) for v in images.ravel()[:4]],
        "tensors": len(arrays),
        "weights_sha256": digest(arrays),
        "max_abs_logit": significant(largest.item()),
        "f32_max_relative_difference": significant(difference, 3),
        "logits": [[significant(value) for value in row] for row in logits.tolist()],
    }, {name: [float(v) for v in arrays[name].ravel()[:4]] for name in PROBES}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "chapters/01-cpu/tests/reference/resnet_logits.json")
    arguments = parser.parse_args()
    # The sums of one thread come out the same on every run.
    torch.set_num_threads(1)
    cases, probes = [], {}
    for arch in resnet.LAYERS:
        for stem in STEMS:
            record, first = case(arch, stem)
            cases.append(record)
            probes[f"{arch}/{stem}"] = first
    head = {
        "schema_version": 1,
        "made_by": "ci/peers/resnet_reference.py",
        "versions": {"torch": torch.__version__},
        "seed": SEED,
        "probes": probes["resnet18/imagenet"],
    }
    # One line a case: logits are for programs, and a diff then names the network.
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    body = ",\n".join(f"    {json.dumps(record)}" for record in cases)
    text = "{\n" + "\n".join(lines) + '\n  "cases": [\n' + body + "\n  ]\n}\n"
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text, encoding="utf-8")
    print(f"{len(cases)} cases, {len(text)} bytes")


if __name__ == "__main__":
    main()
