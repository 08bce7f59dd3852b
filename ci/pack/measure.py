"""Makes every GPU measurement of the book, from a folder that `cargo x pack` made.

    python3 measure.py [--device cuda|cpu] [--sweep] [--only NAME] [--dry-run]

It needs this folder, an NVIDIA GPU with its driver, and a Python with torch 2.11, torchvision,
safetensors and JAX with its CUDA plugin (--python, or the one that runs this). ONNX Runtime is
measured with the CUDA and TensorRT providers where that Python has the package onnxruntime-gpu.
No cargo, no compiler, no network.

The parts run one after the other. Each has a time limit, and what it leaves goes to those after
it; all together keep below eight minutes. The sweeps of chapter 4 are not among them: with --sweep
they run in place of the others, in eight minutes more. A part that fails or hangs does not stop the
others. Result files go to results-local/, where the book's builder looks for them in a checkout;
what each part said goes to logs/; summary.json (with --sweep, summary-sweep.json) tells what became
of each.

With --device cpu the same parts run on the CPU, short: whether the folder works, not how fast
anything is.

Exit code: 0 if all parts were measured, 1 if one failed or ran out of time, 2 for wrong usage,
3 if a part lacked something here.
"""

import argparse
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# Everything, in seconds: under eight minutes.
BUDGET = 470
# A part that has less time than this left is not begun.
LEAST = 5
# In a command: the longest wait for one answer, so that whoever compiles for too long fails alone
# and the others are still measured.
ANSWER_LIMIT = "ANSWER_LIMIT"
ANSWER_SHARE = 0.55
# Programs' exit code where a device, a plugin or a library is not there.
UNAVAILABLE = 3

# Asked of the Python whose packages are used; importing them would take seconds of the budget.
FIND = """
import importlib.util, json, pathlib, sys
torch = importlib.util.find_spec("torch")
libraries = pathlib.Path(torch.origin).parent / "lib" if torch and torch.origin else None
onnxruntime = importlib.util.find_spec("onnxruntime")
engines = sorted((pathlib.Path(onnxruntime.origin).parent / "capi").glob("libonnxruntime.so*")) if onnxruntime else []
plugins = [p for folder in sys.path for p in pathlib.Path(folder or ".").glob("jax_plugins/xla_cuda*/xla_cuda_plugin.so")]
print(json.dumps({
    "torch_libraries": str(libraries) if libraries and libraries.is_dir() else None,
    "onnxruntime": str(engines[0]) if engines else None,
    "pjrt_plugin": str(plugins[0].resolve()) if plugins else None,
    "version": sys.version.split()[0],
}))
"""


class Part:
    """One measurement.

    * `name`: as --only has it
    * `limit`: seconds that it has for itself; what earlier parts leave comes on top
    * `words`: the command, its program relative to the folder
    * `needs`: "torch_libraries" or "pjrt_plugin"
    * `result`: pattern of its result file, whose folder is named after the machine
    """

    def __init__(self, name, limit, words, needs, result):
        self.name, self.limit, self.words, self.needs, self.result = name, limit, words, needs, result


def result_file(folder, measurement):
    return f"results-local/{folder}/*/{measurement}.json"


def chapter(package, folder, measurement, limit, device, quick, needs):
    words = [f"bin/{package}", "learn", "--only", measurement, "--device", device]
    words += ["--out", f"results-local/{folder}", "--quiet"] + (["--quick"] if quick else [])
    return Part(measurement, limit, words, needs, result_file(folder, measurement))


def peers(kind, folder, measurement, limit, python, arguments, needs):
    words = ["bin/x", "peers", kind, "--root", str(FOLDER), "--python", python]
    words += ["--time-limit", ANSWER_LIMIT, "--only", measurement, "--quiet", *arguments]
    return Part(f"peers-{kind}", limit, words, needs, result_file(folder, measurement))


def contenders(*names):
    return [word for name in names for word in ("--contender", name)]


def parts(device, python):
    """The measurements, the longest last: it gets what the others leave of their time.

    The limits add up to the budget.
    """
    quick = device == "cpu"

    def of_chapter_2(name, limit):
        return chapter("gpu-inference", "02-gpu", name, limit, device, quick, "torch_libraries")

    # Of the peers those that the book compares; PyTorch's compiler of training steps, which
    # chooses kernels by trial, would take all of the time.
    if quick:
        trained = "train-digits-w16"
        training_flags = ["--quick", "--rounds", "1"]
        inference = peers(
            "engines", "02-gpu", "peers-resnet18-32-b1-f32", 220, python,
            ["--quick", *contenders("tch", "onnxruntime"), "--worker", "bin/gpu-inference"],
            "torch_libraries",
        )
    else:
        trained = "train-32-w64-bf16-cuda"
        training_flags = ["--rounds", "10", "--device", "cuda"]
        inference = peers(
            "gpu", "02-gpu", "peers-resnet50-224-b256-bf16-cuda", 220, python,
            [*contenders("tch-channels-last", "tch-fused", "pytorch", "torch-compile"), "--worker", "bin/gpu-inference"],
            "torch_libraries",
        )
    training = peers(
        "train", "03-tpu-training", trained, 70, python,
        [*training_flags, *contenders("pjrt-while", "jax-scan", "pytorch-channels-last"), "--worker", "bin/tpu-training"],
        "pjrt_plugin",
    )
    return [
        of_chapter_2("run-digits", 10),
        of_chapter_2("ladder", 40),
        of_chapter_2("tune", 40),
        of_chapter_2("roofline", 30),
        of_chapter_2("pipeline", 20),
        of_chapter_2("engines", 15),
        chapter("tpu-training", "03-tpu-training", "steps-per-call", 25, device, quick, "pjrt_plugin"),
        training,
        inference,
    ]


def sweeps(device):
    """Chapter 4: 18 trainings, as many at once as fit into the device, and one after another."""
    quick = device == "cpu"

    def of_chapter_4(name, limit):
        return chapter("parallel-training", "04-sweep", name, limit, device, quick, "pjrt_plugin")

    # What only fills a table on a machine with a GPU has no quick form.
    one_slot = [] if quick else [of_chapter_4("sweep-18-one-slot", 270)]
    return [of_chapter_4("sweep-18", BUDGET - sum(part.limit for part in one_slot)), *one_slot]


def find(python):
    """What that Python has, by path; raises RuntimeError if it does not run."""
    try:
        done = subprocess.run(
            [python, "-c", FIND], capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL
        )
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise RuntimeError(f"--python {python} does not run: {error}") from error


def environment(found, device):
    variables = dict(os.environ)
    if found["torch_libraries"]:
        rest = variables.get("LD_LIBRARY_PATH")
        variables["LD_LIBRARY_PATH"] = found["torch_libraries"] + (f":{rest}" if rest else "")
    # A library that the user has chosen stays.
    chosen = {"ORT_DYLIB_PATH": found["onnxruntime"]}
    if device == "cuda":
        chosen["PJRT_PLUGIN_LIBRARY_PATH"] = found["pjrt_plugin"]
    for name, path in chosen.items():
        if path and not variables.get(name):
            variables[name] = path
    return variables


def lack(part, found, variables):
    """What the part cannot do without and is not here; None if all is."""
    program = FOLDER / part.words[0]
    if not program.is_file():
        return f"{part.words[0]} is not in this folder; make it anew with `cargo x pack`"
    if part.needs == "torch_libraries" and not found["torch_libraries"]:
        return "this Python has no torch, whose libraries the program loads; --python one that has torch 2.11"
    if part.needs == "pjrt_plugin" and not variables.get("PJRT_PLUGIN_LIBRARY_PATH"):
        return "no PJRT plugin: this Python has no jax-cuda plugin, and PJRT_PLUGIN_LIBRARY_PATH is not set"
    return None


def last_words(path):
    """The last error in a log, or its last line."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    errors = [line for line in lines if line.startswith("error")]
    return next((line[:300] for line in reversed(errors or lines) if line), "no message")


def stop(process):
    """Ends the part with all that it has started, also what outlives the part itself."""
    for how, patience in ((signal.SIGTERM, 3), (signal.SIGKILL, 3)):
        try:
            os.killpg(process.pid, how)
            process.wait(patience)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


def seconds_for(part, later, left, most):
    """How long a part may take: all that is left but what later parts have for themselves."""
    free = max(left - sum(other.limit for other in later), min(part.limit, left))
    return free if most is None else min(free, most)


def words_of(part, limit):
    return [str(max(int(limit * ANSWER_SHARE), 1)) if word == ANSWER_LIMIT else word for word in part.words]


def run(part, limit, variables, logs):
    """Status, reason and exit code of one part, as the summary has them."""
    path = logs / f"{part.name}.txt"
    begin = time.time()
    with open(path, "wb") as log:
        process = subprocess.Popen(
            words_of(part, limit), cwd=FOLDER, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            executable=FOLDER / part.words[0], start_new_session=True,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            stop(process)
            return "out of time", f"stopped after {limit:.0f} s; see logs/{path.name}", None
        except BaseException:
            stop(process)
            raise
    if code == 0:
        # A chapter leaves out what lacks its device or library, and succeeds. A second of grace:
        # some file systems count whole seconds.
        if any(file.stat().st_mtime >= begin - 1 for file in FOLDER.glob(part.result)):
            return "measured", None, 0
        return "not measured", last_words(path), 0
    status = "not measured" if code == UNAVAILABLE else "failed"
    return status, last_words(path), code


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a short look whether all works")
    parser.add_argument("--sweep", action="store_true", help="chapter 4's sweeps, in place of all else")
    parser.add_argument("--python", default=sys.executable, help="the Python that has torch and JAX (default: this one)")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="only parts whose name has this in it; may be given several times"
    )
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="at most so long for each part")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and what is missing")
    arguments = parser.parse_args()
    python = shutil.which(arguments.python)
    if python is None:
        parser.error(f"--python {arguments.python}: no such program")
    everything = sweeps(arguments.device) if arguments.sweep else parts(arguments.device, str(Path(python).absolute()))
    summary = "summary-sweep.json" if arguments.sweep else "summary.json"
    wanted = arguments.only or [""]
    selected = [part for part in everything if any(name in part.name for name in wanted)]
    if not selected:
        names = ", ".join(part.name for part in everything)
        parser.error(f"--only {' '.join(wanted)}: no part is called so; there are {names}")
    if arguments.limit is not None and arguments.limit <= 0:
        parser.error(f"--limit: expected seconds above 0, got {arguments.limit}")
    try:
        found = find(python)
    except RuntimeError as error:
        parser.error(str(error))
    variables = environment(found, arguments.device)

    if arguments.dry_run:
        for part in selected:
            reason = lack(part, found, variables)
            print(f"{part.name} ({part.limit} s, and what others leave): {' '.join(words_of(part, part.limit))}")
            print(f"    {'missing: ' + reason if reason else 'has what it needs'}")
        return 0

    logs = FOLDER / "logs"
    logs.mkdir(exist_ok=True)
    begin = time.monotonic()
    outcomes = []
    for index, part in enumerate(selected):
        left = BUDGET - (time.monotonic() - begin)
        limit = seconds_for(part, selected[index + 1 :], left, arguments.limit)
        start = time.monotonic()
        reason = lack(part, found, variables)
        if reason:
            status, code = "not measured", None
        elif left < LEAST:
            status, reason, code = "out of time", f"the {BUDGET} s for all parts are used up", None
        else:
            print(f"{part.name}, at most {limit:.0f} s ...", file=sys.stderr, flush=True)
            status, reason, code = run(part, limit, variables, logs)
        outcome = {"name": part.name, "status": status, "reason": reason, "exit_code": code}
        outcome |= {"seconds": round(time.monotonic() - start, 1), "command": words_of(part, limit)}
        outcomes.append(outcome)
        # After each part: an interrupted run keeps what it has.
        write_summary(summary, arguments.device, found, outcomes)
        print(f"{part.name}: {status} ({outcome['seconds']} s){': ' + reason if reason else ''}", flush=True)
    print(f"results in {FOLDER / 'results-local'}; copy that folder into the checkout")
    statuses = {outcome["status"] for outcome in outcomes}
    if statuses & {"failed", "out of time"}:
        return 1
    return UNAVAILABLE if "not measured" in statuses else 0


def write_summary(name, device, found, outcomes):
    # Paths of this machine are nobody's business.
    here = str(FOLDER)
    shown = [
        outcome | {"command": [word.replace(here, ".") for word in outcome["command"]]} for outcome in outcomes
    ]
    now = datetime.datetime.now(datetime.timezone.utc)
    content = {
        "schema_version": 1,
        "created_utc": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "device": device,
        "python": found["version"],
        "parts": shown,
    }
    partial = FOLDER / f"{name}.partial"
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(FOLDER / name)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
