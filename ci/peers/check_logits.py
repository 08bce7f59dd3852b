"""Opens a model that chapter 3 trained in PyTorch, and compares logits.

    tpu-training evaluate --model MODEL --logits LOGITS
    python check_logits.py --model MODEL --logits LOGITS

LOGITS holds `images` (f32 NCHW, normalised), `labels` (i32) and `logits` (f32) as
the trainer's program computed them. PyTorch computes its own from the same weights.
Exit code 1 if any logit differs by more than 1e-4 of the largest: both sides sum
the same f32 products in another order, which costs about 1e-6 here; a wrong layout
or a wrong batch norm costs more than 1e-1.
"""

import argparse
import json
import sys

import safetensors
import safetensors.numpy
import torch

import resnet

TOLERANCE = 1e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="safetensors file with torchvision's names")
    parser.add_argument("--logits", required=True, help="what `tpu-training evaluate --logits` wrote")
    arguments = parser.parse_args()

    with safetensors.safe_open(arguments.model, "pt") as file:
        metadata = file.metadata()
    model = resnet.build(metadata["arch"], metadata["stem"], arguments.model)
    theirs = safetensors.numpy.load_file(arguments.logits)
    with torch.inference_mode():
        ours = model(torch.from_numpy(theirs["images"])).numpy()

    largest = abs(ours).max()
    difference = float(abs(ours - theirs["logits"]).max() / largest)
    right = float((ours.argmax(1) == theirs["labels"]).mean())
    print(
        json.dumps(
            {
                "images": len(ours),
                "accuracy": right,
                "logit_max_relative_difference": difference,
                "tolerance": TOLERANCE,
                "torch": torch.__version__,
            }
        )
    )
    # `not <=`: a NaN is a failure, too.
    if not difference <= TOLERANCE:
        sys.exit(f"logits differ by {difference:.2e} of the largest; expected at most {TOLERANCE:.0e}")


if __name__ == "__main__":
    main()
