"""Executes one notebook with nbconvert, and writes it with its outputs.

    python execute.py NOTEBOOK --folder FOLDER --to FILE --limit SECONDS

`cargo x notebooks` calls it. The kernel works in FOLDER and has this process's environment. FILE is
written whether the notebook came to its end or not.

Exit code 0: every cell was executed. 1: one was not; stdout then has one JSON object: `cell` (its id),
`error`, and `output`, the end of what the cell had said. stderr has a line for each cell that begins.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbconvert.preprocessors import CellExecutionError, ExecutePreprocessor

# How much of a failed cell's output is told.
LINES = 20
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Executor(ExecutePreprocessor):
    """nbconvert's own, which also knows at which cell it is."""

    at = None

    def preprocess_cell(self, cell, resources, index):
        """Executes a cell; called for each in turn."""
        if cell.cell_type == "code":
            self.at = cell
            begin = next((line for line in cell.source.splitlines() if line.strip()), "")
            print(f"  {cell.id}  {begin}", file=sys.stderr, flush=True)
        return super().preprocess_cell(cell, resources, index)


def end_of(cell):
    """The last lines that a cell has printed, without colours."""
    said = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            said += output.text.splitlines()
        elif output.output_type == "error":
            said += [f"{output.ename}: {output.evalue}"]
    return "\n".join(COLOURS.sub("", line) for line in said[-LINES:])


def execute(notebook, folder, limit):
    """Executes all cells in place; None, or what happened to which cell.

    * limit: seconds for the whole notebook
    """
    until = time.monotonic() + limit
    # A cell has what is left for the notebook.
    executor = Executor(
        kernel_name="python3",
        timeout_func=lambda cell: max(1, round(until - time.monotonic())),
        # It would warn of TCP, which here does not leave the machine, and tell that it was stopped. What
        # fails in a cell comes as that cell's output.
        extra_arguments=["--log-level=CRITICAL"],
    )
    try:
        executor.preprocess(notebook, {"metadata": {"path": str(folder)}})
    except CellExecutionError as error:
        what = f"{error.ename}: {error.evalue}"
    except CellTimeoutError:
        what = f"stopped: the notebook's limit of {limit} s was over"
    except DeadKernelError:
        what = "the kernel died"
    else:
        return None
    cell = executor.at
    return {"cell": cell.id if cell else "none", "error": what, "output": end_of(cell) if cell else ""}


def main():
    parser = argparse.ArgumentParser(description="Execute a notebook.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="where the kernel works")
    parser.add_argument("--to", type=Path, required=True, help="the notebook with its outputs")
    parser.add_argument("--limit", type=int, required=True, help="seconds for all cells together")
    arguments = parser.parse_args()
    notebook = nbformat.read(arguments.notebook, as_version=4)
    try:
        failure = execute(notebook, arguments.folder, arguments.limit)
    finally:
        nbformat.write(notebook, arguments.to)
    if failure:
        print(json.dumps(failure))
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
