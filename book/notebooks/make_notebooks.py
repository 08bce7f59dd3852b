"""Writes the book's companion notebooks, one a chapter.

    python3 book/notebooks/make_notebooks.py            writes them
    python3 book/notebooks/make_notebooks.py --check    exit code 1 if one differs from what it would write

A notebook is made for a hosted runtime with a GPU or a TPU and nothing else: it installs Rust, clones
the repository, measures one chapter on the device, and shows the book's charts with the figures. The
same input gives the same bytes: cells have fixed ids, and no output is kept.

`cargo x notebooks` looks at what --check looks at, and then executes them all on the CPU.

Needs Python 3.9 or newer, and no package.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# The oldest toolchain that the workspace takes: rust-version in the root Cargo.toml.
TOOLCHAIN = "1.89.0"


@dataclass(frozen=True)
class Chapter:
    """What differs between the notebooks."""

    name: str  # folder under chapters/ and results-local/
    title: str
    question: str
    package: str
    device: str  # --device of the program
    runtime: str  # what to choose in the hosted service
    setup: str  # flags of `cargo x setup`
    environment: dict[str, str]
    also: tuple[str, ...]  # packages whose programs the chapter starts
    pages: tuple[str, ...]  # with charts, below book/html
    prediction: str


CHAPTERS = (
    Chapter(
        name="01-cpu",
        title="The CPU baseline",
        question="How many pictures a second should this runtime's CPU classify, and how many does it?",
        package="cpu-inference",
        device="cpu",
        runtime="any",
        setup="",
        environment={},
        also=(),
        pages=("01-cpu/ladder", "01-cpu/pipeline"),
        prediction="Cores times clock times FLOP a cycle (32 with two 256-bit units), over 8.18 GFLOP a picture.",
    ),
    Chapter(
        name="02-gpu",
        title="The same pipeline on a GPU",
        question="What does one changed line buy here, and what becomes the limit?",
        package="gpu-inference",
        device="cuda",
        runtime="a GPU",
        setup="--cuda --engines",
        environment={},
        also=(),
        pages=("02-gpu/batch-size", "02-gpu/int8"),
        prediction="The GPU's 16-bit peak over 8.18 GFLOP, and its bandwidth over 44 MB: the smaller rate is the bound.",
    ),
    Chapter(
        name="03-tpu-training",
        title="Training through XLA",
        question="Does the training that ran on two cores of a CPU run on a TPU without a changed line?",
        package="tpu-training",
        device="tpu",
        runtime='a TPU (for a GPU write "cuda" for DEVICE, "--cuda" for SETUP and {} for ENVIRONMENT)',
        setup="--tpu",
        environment={"PJRT_DEVICE": "TPU"},
        also=(),
        pages=("03-tpu-training/learning", "03-tpu-training/peers"),
        prediction="13 MFLOP a picture. What does a call cost the host beside that?",
    ),
    Chapter(
        name="04-sweep",
        title="18 models in parallel",
        question="How many trainings does this runtime carry at a time?",
        package="parallel-training",
        device="cuda",
        runtime="a GPU",
        setup="--cuda",
        environment={},
        also=("cpu-inference",),
        pages=("04-sweep/grid", "04-sweep/beyond-one-machine"),
        prediction="2,250 GFLOP in all, six programs to compile. Which of the two is longer here?",
    ),
)

HELPERS = '''\
import json
import re
import shutil
import subprocess
from pathlib import Path

from IPython.display import HTML, display

# Rust's installer puts cargo there; nothing else of the environment changes.
os.environ["PATH"] += os.pathsep + str(Path.home() / ".cargo/bin")
os.environ.update(ENVIRONMENT)


def run(command, folder="."):
    """Runs a shell command, shows what it says as it says it, and stops the notebook if it fails."""
    print("$", command, flush=True)
    with subprocess.Popen(
        command, shell=True, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {command}")
'''

INSTALL = f'''\
# Rust itself; the checkout pins everything else. A C++ compiler, Python and pip are on hosted runtimes.
if shutil.which("cargo") is None:
    run("curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs"
        " | sh -s -- -y --no-modify-path --profile minimal --default-toolchain {TOOLCHAIN}")
if not CHECKOUT.exists():
    run(f"git clone --depth 1 {{REPOSITORY}} {{CHECKOUT}}")
run("cargo x doctor", CHECKOUT)
'''

SHOW = '''\
def charts(page):
    """The charts of a page, with this runtime's figures beside the published ones."""
    html = (CHECKOUT / "book/html" / f"{page}.html").read_text(encoding="utf-8")
    found = re.findall(r'<figure class="figure chart">.*?</figure>', html, flags=re.DOTALL)
    assert found, f"no chart on {page}: was the book rendered?"
    return "".join(found)


style = (CHECKOUT / "book/theme/figures.css").read_text(encoding="utf-8")
for page in PAGES:
    display(HTML(f"<style>{style}</style><h3>{page}</h3>{charts(page)}"))
'''

RESULTS = '''\
# What was measured on which device: a chapter that fell back to the CPU would be seen here.
results = {}
for file in sorted((CHECKOUT / "results-local" / CHAPTER).glob("*/*.json")):
    result = json.loads(file.read_text(encoding="utf-8"))
    if "measurement" in result:  # else a summary, not a result file
        results[file.stem] = result
assert results, "no result file: was the chapter measured?"
for name, result in results.items():
    devices = sorted({str(row["workload"].get("device", "not named")) for row in result["rows"]})
    kinds = sorted({row["status"] for row in result["rows"]})
    print(f"{name}: {len(result['rows'])} rows, device {', '.join(devices)}, {', '.join(kinds)}")
'''


def markdown(text: str) -> tuple[str, str]:
    return "markdown", text


def code(text: str) -> tuple[str, str]:
    return "code", text


def cells(chapter: Chapter) -> list[tuple[str, str]]:
    """Kind and text of each cell."""
    settings = "\n".join(
        [
            "import os",
            "",
            "# The address of the repository, or of your copy of it.",
            'REPOSITORY = "https://github.com/OWNER/REPOSITORY"',
            "",
            "# The second value counts, unless the environment has the variable: a test has, to try this on a CPU.",
            f'DEVICE = os.environ.get("NOTEBOOK_DEVICE", "{chapter.device}")',
            f'SETUP = os.environ.get("NOTEBOOK_SETUP", "{chapter.setup}")',
            "# --quick shows that it works; an empty text gives figures to rely on, in much more time.",
            'LEARN = os.environ.get("NOTEBOOK_LEARN", "--quick")',
            "",
            f'CHAPTER = "{chapter.name}"',
            f"ENVIRONMENT = {chapter.environment!r}",
            f"PAGES = {list(chapter.pages)!r}",
        ]
    )
    packages = " ".join(f"--bin {package}" for package in (chapter.package, *chapter.also))
    return [
        markdown(
            f"# {chapter.title}\n\n{chapter.question}\n\n"
            f"Choose {chapter.runtime} as the runtime. Set `REPOSITORY` below, then run the cells from top to "
            "bottom. Building takes some minutes, measuring too.\n\n"
            "A test executes this notebook on a CPU (`cargo x notebooks`), with `cpu` for the device, where Rust "
            "and a checkout are there already. **Nobody has executed it on a hosted runtime**, neither on a GPU nor "
            "on a TPU: none was at hand. It keeps no output."
        ),
        code(settings),
        code(HELPERS),
        markdown(
            f"## Predict first\n\n{chapter.prediction}\n\nWrite the number down here, in this cell, before you go on:\n\n> "
        ),
        markdown("## Install\n\nRust into your home folder, the repository beside this notebook, the rest into the checkout. What "
            "is there already is taken as it is."),
        code('CHECKOUT = Path("checkout").resolve()\n' + INSTALL),
        code('run(f"cargo x setup {SETUP}".strip(), CHECKOUT)'),
        markdown(
            "## Measure\n\nThe device is named, so that nothing falls back in silence: where it is missing, the program ends with "
            "exit code 3 and says what is missing."
        ),
        code(
            f'run("cargo build --release {packages}", CHECKOUT)\n'
            f'run(f"cargo run --release --bin {chapter.package} -- learn {{LEARN}} --device {{DEVICE}}"\n'
            '    f" --out results-local/{CHAPTER}", CHECKOUT)'
        ),
        code(RESULTS),
        markdown("## Look\n\nThe book, rendered with your figures; here are its charts."),
        code('run("cargo x book", CHECKOUT)'),
        code(SHOW),
        markdown(
            "## And then\n\nCompare with what you wrote down. Where the two differ, there is something to learn.\n\n"
            "To keep the figures, download the folder `checkout/results-local`. To hand them in, see the book's page "
            "*Add your results*."
        ),
    ]


def notebook(chapter: Chapter) -> str:
    """The notebook as text, format 4.5."""
    made = []
    for number, (kind, text) in enumerate(cells(chapter)):
        cell = {
            "cell_type": kind,
            "id": f"{chapter.name}-{number:02}",
            "metadata": {},
            "source": text.rstrip("\n").splitlines(keepends=True),
        }
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        made.append(cell)
    whole = {
        "cells": made,
        "metadata": {
            "accelerator": {"cuda": "GPU", "tpu": "TPU"}.get(chapter.device, "None"),
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the companion notebooks.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a notebook differs")
    arguments = parser.parse_args()
    stale = []
    for chapter in CHAPTERS:
        path = FOLDER / f"{chapter.name}.ipynb"
        text = notebook(chapter)
        if not arguments.check:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(FOLDER.parent.parent))
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
    if stale:
        print(f"differ from what {Path(__file__).name} writes: {', '.join(stale)}; run it", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
