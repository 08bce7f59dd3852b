"""Writes the reference for preprocessing: what Pillow and torchvision make of an image.

    python preprocessing_reference.py [--photographs chapters/01-cpu/samples]
                                      [--out chapters/01-cpu/tests/reference]

Each case is a source image and `Resize(256)` (shorter side, antialiased
bilinear), `CenterCrop(224)` of it, as torchvision does on a PIL image: Pillow
resizes 8-bit values with fixed-point weights, rounding after each direction.
The result is saved as lossless PNG; `preprocessing.json` lists the cases with
sizes, the crop's corner, library versions and SHA-256.

Cases named `jpeg-*` start at a committed photograph, so that they compare the
JPEG decoder, the resize and the crop together. All others start at a PNG
written here and compare resize and crop alone: scaled down by
three, in portrait and landscape, of exactly 256 pixels, scaled up from 100x60, grey, and
with an alpha channel (which `convert("RGB")` drops without blending).

The list `decoding` compares the JPEG decoder alone: what Pillow (libjpeg-turbo)
makes of a piece of each photograph, and of three small JPEGs written here that
differ in what the decoder has to do: `decode-grey` is the inverse DCT alone,
`decode-444` adds the conversion from YCbCr, `decode-420` the upsampling of
chroma at half the resolution. 99 x 67 pixels fill no block at the right and the
bottom.

The corner of the crop is Python's round((side - 224) / 2): halves go to the even
number. The longer side is int(256 * longer / shorter), rounded down.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import PIL
import PIL.features
import torchvision
from PIL import Image
from PIL.JpegImagePlugin import get_sampling
from torchvision.transforms import v2
from torchvision.transforms.functional import InterpolationMode

RESIZE, CROP = 256, 224
MAX_FILE_BYTES, MAX_TOTAL_BYTES = 150_000, 950_000
ROOT = Path(__file__).resolve().parents[2]


def sources(photographs):
    """(name, image) of each case that starts at a PNG.

    Sizes are chosen for the rule they exercise: longer sides of 383 and 385
    pixels put the crop's corner at 79.5 and 80.5, which both round to 80; 1167
    scales to 384.49, cut to 384.
    """
    china = photographs["china"]
    flower = photographs["flower"]

    def scaled(image, width, height):
        return image.resize((width, height), Image.Resampling.LANCZOS)

    yield "landscape", scaled(china, 301, 200)
    # Periodic with sharp edges: every aliasing error shows, and PNG packs it well.
    x, y = np.meshgrid(np.arange(777), np.arange(1167))
    bars = np.stack([x % 7 * 36, (x + y) % 11 * 23, (x // 5 + y // 3) % 2 * 255], axis=-1)
    yield "portrait-down", Image.fromarray(bars.astype(np.uint8))
    # Blurred, for the size of the PNG: nothing is resized, only the crop counts.
    yield "exactly-256", scaled(flower.reduce(16), 383, 256)
    yield "up-100x60", scaled(flower, 100, 60)
    yield "grey", scaled(china, 120, 180).convert("L")
    alpha = scaled(flower, 96, 96).convert("RGBA")
    # A ramp from clear to opaque: blending with any background would change every pixel.
    alpha.putalpha(Image.fromarray(np.linspace(0, 255, 96 * 96).astype(np.uint8).reshape(96, 96)))
    yield "alpha", alpha


def preprocess(image):
    """(crop, record): the 224x224 RGB crop and where it lies in the resized image."""
    rgb = image.convert("RGB")
    resized = v2.Resize(RESIZE, interpolation=InterpolationMode.BILINEAR, antialias=True)(rgb)
    crop = v2.CenterCrop(CROP)(resized)
    left, top = (round((side - CROP) / 2) for side in resized.size)
    if crop.tobytes() != resized.crop((left, top, left + CROP, top + CROP)).tobytes():
        raise SystemExit(f"the crop of {image.size} is not at ({left}, {top}): torchvision's rule has changed")
    record = {
        "source_width": image.width,
        "source_height": image.height,
        "source_mode": image.mode,
        "resized_width": resized.width,
        "resized_height": resized.height,
        "crop_left": left,
        "crop_top": top,
    }
    return crop, record


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def save_png(image, path):
    """Saves losslessly and returns the file's size in bytes."""
    image.save(path, format="PNG", optimize=True)
    with Image.open(path) as back:
        if back.mode != image.mode or back.tobytes() != image.tobytes():
            raise SystemExit(f"{path.name} does not hold what was written")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise SystemExit(f"{path.name} has {size} bytes, more than {MAX_FILE_BYTES}: choose a smaller source")
    return size


def decoding(photographs, folder, out):
    """Writes what the decoder alone is compared with: (records, bytes written)."""
    left, top, side = 272, 160, 96
    cases = []
    for name in photographs:
        cases.append((f"decode-{name}", folder / f"{name}.jpg", (left, top, left + side, top + side)))
    small = photographs["flower"].resize((99, 67), Image.Resampling.LANCZOS)
    for name, image, options in (
        ("grey", small.convert("L"), {}),
        ("444", small, {"subsampling": "4:4:4"}),
        ("420", small, {"subsampling": "4:2:0"}),
    ):
        path = out / f"decode-{name}.jpg"
        image.save(path, format="JPEG", quality=90, **options)
        cases.append((f"decode-{name}", path, (0, 0, *small.size)))

    records, total = [], sum(path.stat().st_size for _, path, _ in cases if path.parent == out)
    for name, source, region in cases:
        with Image.open(source) as image:
            sampling = get_sampling(image)
            mode = image.mode
            expected = image.convert("RGB").crop(region)
        path = out / f"{name}-expected.png"
        total += save_png(expected, path)
        records.append(
            {
                "name": name,
                "source": source.name,
                "source_sha256": sha256(source.read_bytes()),
                "expected": path.name,
                "expected_sha256": sha256(path.read_bytes()),
                "mode": mode,
                "chroma": "none" if mode == "L" else {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}[sampling],
                "left": region[0],
                "top": region[1],
                "width": expected.width,
                "height": expected.height,
            }
        )
    return records, total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=ROOT / "chapters/01-cpu/samples")
    parser.add_argument("--out", type=Path, default=ROOT / "chapters/01-cpu/tests/reference")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    photographs, cases, total = {}, [], 0
    for name in ("china", "flower"):
        path = arguments.photographs / f"{name}.jpg"
        with Image.open(path) as image:
            image.load()
            photographs[name] = image.convert("RGB")
        crop, record = preprocess(photographs[name])
        cases.append((f"jpeg-{name}", path, crop, record))
    for name, image in sources(photographs):
        path = arguments.out / f"{name}-source.png"
        total += save_png(image, path)
        crop, record = preprocess(image)
        cases.append((name, path, crop, record))

    records = []
    for name, source, crop, record in cases:
        expected = arguments.out / f"{name}-crop.png"
        total += save_png(crop, expected)
        records.append(
            {
                "name": name,
                "source": source.name,
                "source_sha256": sha256(source.read_bytes()),
                "expected": expected.name,
                "expected_sha256": sha256(expected.read_bytes()),
                "expected_rgb_sha256": sha256(crop.tobytes()),
                **record,
            }
        )
    decoded, written = decoding(photographs, arguments.photographs, arguments.out)
    total += written
    document = {
        "schema_version": 1,
        "made_by": "ci/peers/preprocessing_reference.py",
        "versions": {
            "pillow": PIL.__version__,
            "libjpeg_turbo": PIL.features.version("libjpeg_turbo"),
            "torchvision": torchvision.__version__,
        },
        "resize": RESIZE,
        "crop": CROP,
        "interpolation": "bilinear, antialiased",
        "cases": records,
        "decoding": decoded,
    }
    text = json.dumps(document, indent=2) + "\n"
    (arguments.out / "preprocessing.json").write_text(text, encoding="utf-8")
    total += len(text)
    if total > MAX_TOTAL_BYTES:
        raise SystemExit(f"the reference has {total} bytes, more than {MAX_TOTAL_BYTES}: choose smaller sources")
    print(f"{len(records)} cases, {len(decoded)} of the decoder alone, {total} bytes")


if __name__ == "__main__":
    main()
