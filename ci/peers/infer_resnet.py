"""One contender of `cargo x peers cpu`, `engines` or `gpu`: a Python inference engine on a ResNet.

    python infer_resnet.py worker
    python infer_resnet.py prepare --arch resnet50 --stem imagenet --image 224 --batch 8 --out DIR
    python infer_resnet.py export-onnx --arch resnet50 --stem imagenet --image 224 --batch 8 --out FILE

`worker` reads one JSON object a line on standard input and answers one a line
on standard output; everything else, libraries' own prints included, goes to
standard error. It ends with the input.

    {"load": {"engine": E, "arch": A, "stem": S, "image": 224, "batch": 8,
              "dtype": "f32"|"bf16"|"f16"|"int8", "threads": 2, "weights": PATH or null,
              "device": "cpu"|"cuda" (cpu if absent), "onnx": PATH (with int8 only)}}
        -> {"loaded": {"versions": {...}, "seconds": s, "settings": {...}}}
    {"run": {"warmup": 2, "samples": 5}}  -> {"seconds": [...]}   one batch each
    {"logits": {"input": PATH}}           -> {"logits": [[...]]}  tensor "input", f32 NCHW
    anything that fails                   -> {"error": "..."}, with "unsupported": true where
                                             the engine has no such feature on this machine

The timed region of every engine begins with the input in the layout and dtype
that the engine takes, on the device, and ends with the logits as an f32 NumPy
array in host memory.

In f32 and bf16 ONNX Runtime and OpenVINO open what PyTorch exports. In INT8
they open the file that the book's own program has quantised (`onnx`), so that
all of them round alike.

`prepare` writes the weights and the input that all contenders of one workload
share (seeded_weights.py); `export-onnx` runs as a child of the workers that
need it, so that no PyTorch sits in the process that measures ONNX Runtime or
OpenVINO.
"""

import argparse
import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import safetensors.numpy

import protocol
from protocol import Unsupported
from seeded_weights import seeded_tensor

SEED = 0


def require_bf16_cpu():
    """Raises `Unsupported` on a CPU without bf16 instructions, where an engine
    would emulate them and measure the emulation."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise Unsupported(f"cannot tell whether this CPU has bf16 instructions: {error}") from error
    flags = set()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            flags.update(value.split())
    if not flags & {"avx512_bf16", "amx_bf16", "bf16"}:
        raise Unsupported("this CPU has no bf16 instructions (none of avx512_bf16, amx_bf16, bf16)")


def pytorch(engine, spec):
    """PyTorch on the device of the load message."""
    if spec["dtype"] == "int8":
        raise Unsupported("PyTorch opens no ONNX file; its own quantisation is a package that is not pinned")
    if spec["device"] == "cuda":
        from pytorch_on_gpu import PyTorchOnGpu

        return PyTorchOnGpu(engine, spec, make_input)
    return PyTorch(engine, spec)


class PyTorch:
    """PyTorch as it comes, in channels-last layout, or compiled by inductor."""

    def __init__(self, engine, spec):
        import torch
        import torchvision

        import resnet

        self.torch = torch
        torch.set_num_threads(spec["threads"])
        torch.set_num_interop_threads(1)
        torch.set_grad_enabled(False)
        self.versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
        self.settings = {"cpu_capability": torch.backends.cpu.get_cpu_capability()}
        self.channels_last = engine != "pytorch-eager"
        self.bf16 = spec["dtype"] == "bf16"
        if self.bf16:
            require_bf16_cpu()
        elif spec["dtype"] != "f32":
            raise Unsupported(f"{spec['dtype']} is measured on GPUs only")
        model = resnet.build(spec["arch"], spec["stem"], spec["weights"], SEED)
        if self.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.input = make_input(spec, model.conv1.in_channels)

        if engine == "torch-compile":
            self.compile(model)
        elif self.bf16:
            self.choose_bf16(model)
        else:
            self.model, self.input_dtype, self.autocast = model, torch.float32, False
        self.prepared = self.prepare(self.input)

    def compile(self, model):
        """Inductor with frozen weights, which folds batch norms and prepacks convolutions.

        The mode stays "default": on a CPU "max-autotune" tunes matrix products
        and leaves convolutions to oneDNN, and a ResNet has one matrix product.
        """
        torch = self.torch
        import torch._inductor.config as inductor

        inductor.freezing = True
        # Generated C++ instead of generated Python between the kernels: at
        # 32x32 and batch 1 the Python costs more than the convolutions.
        inductor.cpp_wrapper = True
        # A pool of compiler processes would stay beside the measurement.
        inductor.compile_threads = 1
        self.input_dtype = torch.bfloat16 if self.bf16 else torch.float32
        self.autocast = False
        self.model = torch.compile(model.to(self.input_dtype), backend="inductor", dynamic=False)
        self.settings |= {"freezing": "true", "cpp_wrapper": "true", "mode": "default"}
        if self.bf16:
            self.settings["bf16"] = "model.to"

    def choose_bf16(self, model):
        """Keeps the faster of the two ways that PyTorch offers: everything
        converted, or autocast around an f32 model."""
        torch = self.torch

        def seconds():
            prepared = self.prepare(self.input)
            times = [self.infer_timed(prepared) for _ in range(6)]
            return sorted(times[2:])[0]

        self.model, self.input_dtype, self.autocast = model, torch.float32, True
        autocast_seconds = seconds()
        self.model, self.input_dtype, self.autocast = copy.deepcopy(model).to(torch.bfloat16), torch.bfloat16, False
        if seconds() > autocast_seconds:
            self.model, self.input_dtype, self.autocast = model, torch.float32, True
        self.settings["bf16"] = "autocast" if self.autocast else "model.to"

    def infer_timed(self, prepared):
        start = time.perf_counter()
        self.infer(prepared)
        return time.perf_counter() - start

    def prepare(self, images):
        layout = self.torch.channels_last if self.channels_last else self.torch.contiguous_format
        return self.torch.from_numpy(images).to(self.input_dtype).contiguous(memory_format=layout)

    def infer(self, prepared):
        # inference_mode's tensors are refused by some of inductor's frozen
        # graphs; no_grad, set at load, costs the same.
        if self.autocast:
            with self.torch.autocast("cpu", dtype=self.torch.bfloat16):
                return self.model(prepared).float().numpy()
        return self.model(prepared).float().numpy()


class OnnxRuntime:
    """ONNX Runtime's CPU provider with all graph optimisations."""

    def __init__(self, engine, spec):
        import onnxruntime

        require_cpu("ONNX Runtime", spec)
        if spec["dtype"] not in ("f32", "int8"):
            raise Unsupported(f"ONNX Runtime's CPU provider has no {spec['dtype']} convolution")
        self.versions = {"onnxruntime": onnxruntime.__version__}
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = spec["threads"]
        options.inter_op_num_threads = 1
        self.settings = {"graph_optimization": "all", "execution": "sequential"}
        with model_file(spec) as path:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input_name = self.session.get_inputs()[0].name
        self.output_names = [self.session.get_outputs()[0].name]
        self.input = make_input(spec, self.session.get_inputs()[0].shape[1])
        self.prepared = self.prepare(self.input)

    def prepare(self, images):
        return {self.input_name: images}

    def infer(self, prepared):
        return self.session.run(self.output_names, prepared)[0]


class OpenVino:
    """OpenVINO's CPU plugin, one stream, tuned for latency."""

    def __init__(self, engine, spec):
        import openvino

        require_cpu("OpenVINO", spec)
        if spec["dtype"] == "f16":
            raise Unsupported("f16 is measured on GPUs only")
        self.versions = {"openvino": openvino.__version__.partition("-")[0]}
        core = openvino.Core()
        if spec["dtype"] == "bf16":
            require_bf16_cpu()
            if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
                raise Unsupported("OpenVINO's CPU plugin does not offer bf16 on this CPU")
        # One batch at a time is what every contender is asked for: one stream
        # that owns all the threads. f32 is asked for by name, since the plugin
        # takes bf16 by itself where the CPU has it; an INT8 file says itself what is INT8,
        # and the rest is f32.
        precision = {"int8": "f32"}.get(spec["dtype"], spec["dtype"])
        with model_file(spec) as path:
            model = core.read_model(str(path))
            # A file with a free batch dimension gets the batch that is measured.
            channels = model.input(0).get_partial_shape()[1].get_length()
            model.reshape([spec["batch"], channels, spec["image"], spec["image"]])
            compiled = core.compile_model(
                model,
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "NUM_STREAMS": "1",
                    "INFERENCE_NUM_THREADS": str(spec["threads"]),
                    "INFERENCE_PRECISION_HINT": precision,
                },
            )
        names = ("PERFORMANCE_HINT", "NUM_STREAMS", "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT")
        self.settings = {name.lower(): str(compiled.get_property(name)) for name in names}
        got = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.settings["inference_precision_hint"] = got
        if got != precision:
            raise Unsupported(f"OpenVINO runs in {got}, not in {precision}")
        self.tensor_class = openvino.Tensor
        self.request = compiled.create_infer_request()
        self.input = make_input(spec, list(compiled.input(0).shape)[1])
        self.prepared = self.prepare(self.input)

    def prepare(self, images):
        # Shares the array's memory: no copy inside the timed region.
        return self.tensor_class(images, shared_memory=True)

    def infer(self, prepared):
        self.request.set_input_tensor(prepared)
        self.request.infer()
        return np.array(self.request.get_output_tensor(0).data, dtype=np.float32)


ENGINES = {
    "pytorch-eager": pytorch,
    "pytorch-channels-last": pytorch,
    "torch-compile": pytorch,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
}


def require_cpu(name, spec):
    if spec["device"] != "cpu":
        raise Unsupported(f"{name} is measured on the CPU only; its packages for a GPU are not pinned")


def make_input(spec, channels):
    """The fixed batch of a workload: f32 NCHW, uniform in [-2, 2)."""
    return seeded_tensor(SEED, "input", (spec["batch"], channels, spec["image"], spec["image"]))


def model_file(spec):
    """The workload's model as an ONNX file, for a `with` block."""
    if spec["dtype"] == "int8":
        return contextlib.nullcontext(spec["onnx"])
    return exported(spec)


class exported:
    """The workload's model as PyTorch exports it, which lives as long as the `with` block."""

    def __init__(self, spec):
        self.spec = spec

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="onnx-")
        path = Path(self.folder.name) / "model.onnx"
        command = [sys.executable, os.path.abspath(__file__), "export-onnx", "--out", str(path)]
        for key in ("arch", "stem", "image", "batch"):
            command += [f"--{key}", str(self.spec[key])]
        if self.spec["weights"] is not None:
            command += ["--weights", self.spec["weights"]]
        # Standard input is the protocol's: a child must not read from it.
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        if done.returncode != 0:
            self.folder.cleanup()
            raise RuntimeError(f"the ONNX export ended with {done.returncode}; its messages are on standard error")
        return path

    def __exit__(self, *_):
        self.folder.cleanup()


def export_onnx(arguments):
    import torch

    import resnet

    model = resnet.build(arguments.arch, arguments.stem, arguments.weights, SEED)
    example = torch.zeros(arguments.batch, model.conv1.in_channels, arguments.image, arguments.image)
    with torch.no_grad():
        torch.onnx.export(
            model, (example,), str(arguments.out), dynamo=True, input_names=["input"], output_names=["logits"],
            external_data=False, verbose=False,
        )


def prepare_files(arguments):
    """Writes weights.safetensors and input.safetensors, each whole or not at all."""
    import resnet

    arguments.out.mkdir(parents=True, exist_ok=True)
    model = resnet.build(arguments.arch, arguments.stem, arguments.weights, SEED)
    spec = {"batch": arguments.batch, "image": arguments.image}
    files = {"input.safetensors": {"input": make_input(spec, model.conv1.in_channels)}}
    if arguments.weights is None:
        files["weights.safetensors"] = resnet.seeded_weights(model, SEED)
    for name, tensors in files.items():
        partial = arguments.out / f"{name}.{os.getpid()}.partial"
        safetensors.numpy.save_file(tensors, partial)
        partial.replace(arguments.out / name)


def check_load(spec):
    """Raises ValueError that names the first field that is missing or wrong."""
    kinds = {"engine": str, "arch": str, "stem": str, "image": int, "batch": int, "dtype": str, "threads": int}
    protocol.check_fields("load", spec, kinds)
    if spec["engine"] not in ENGINES:
        raise ValueError(f"load: unknown engine {spec['engine']!r}: expected one of {', '.join(ENGINES)}")
    if spec["dtype"] not in ("f32", "bf16", "f16", "int8"):
        raise ValueError(f"load: unknown dtype {spec['dtype']!r}: expected f32, bf16, f16 or int8")
    device = spec.get("device", "cpu")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"load: unknown device {device!r}: expected cpu or cuda")
    for key in ("weights", "onnx"):
        if spec.get(key) is not None and not isinstance(spec[key], str):
            raise ValueError(f"load: {key!r} must be a path or null, got {json.dumps(spec[key])}")
    if spec["dtype"] == "int8" and spec.get("onnx") is None:
        raise ValueError("load: int8 takes 'onnx', the path of a quantised model")
    return spec | {"weights": spec.get("weights"), "device": device}


class Worker:
    """Answers the messages of the protocol, one engine at a time."""

    def __init__(self):
        self.engine = None

    def answer(self, message):
        if not isinstance(message, dict) or len(message) != 1:
            raise ValueError("expected an object with one key: load, run or logits")
        (kind, body), = message.items()
        if kind not in ("load", "run", "logits") or not isinstance(body, dict):
            raise ValueError(f"expected an object under load, run or logits, got {kind!r}")
        if kind == "load":
            return self.load(check_load(body))
        if self.engine is None:
            raise ValueError(f"{kind!r} came before a model was loaded")
        return self.run(body) if kind == "run" else self.logits(body)

    def load(self, spec):
        start = time.perf_counter()
        self.engine = None
        engine = ENGINES[spec["engine"]](spec["engine"], spec)
        # The first inference compiles, packs weights or plans memory: part of loading.
        engine.infer(engine.prepared)
        self.engine = engine
        versions = {"python": ".".join(map(str, sys.version_info[:3])), "numpy": np.__version__, **engine.versions}
        return {"loaded": {"versions": versions, "seconds": time.perf_counter() - start, "settings": engine.settings}}

    def run(self, body):
        counts = protocol.run_counts(body)
        engine = self.engine
        for _ in range(counts["warmup"]):
            engine.infer(engine.prepared)
        seconds = []
        for _ in range(counts["samples"]):
            start = time.perf_counter()
            engine.infer(engine.prepared)
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds}

    def logits(self, body):
        if not isinstance(body.get("input"), str):
            raise ValueError(f"logits: 'input' must be a path, got {json.dumps(body.get('input'))}")
        tensors = safetensors.numpy.load_file(body["input"])
        if "input" not in tensors:
            raise ValueError(f"logits: no tensor 'input' in the file, only {sorted(tensors)}")
        images = np.ascontiguousarray(tensors["input"])
        if images.dtype != np.float32 or images.shape != self.engine.input.shape:
            raise ValueError(
                f"logits: expected f32 {list(self.engine.input.shape)} as loaded, "
                f"got {images.dtype} {list(images.shape)}"
            )
        logits = self.engine.infer(self.engine.prepare(images))
        if not np.isfinite(logits).all():
            raise ValueError("the logits are not all finite")
        return {"logits": logits.tolist()}


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("worker", help="answer the measurement protocol on standard input")
    for name, text in (("prepare", "write the shared weights and input"), ("export-onnx", "write the model as ONNX")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--arch", required=True)
        command.add_argument("--stem", required=True)
        command.add_argument("--image", type=int, required=True, help="side of the square input, in pixels")
        command.add_argument("--batch", type=int, required=True)
        command.add_argument("--weights", help="safetensors with torchvision's names (default: seeded weights)")
        command.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "worker":
        return protocol.serve(Worker())
    if arguments.command == "prepare":
        prepare_files(arguments)
    else:
        export_onnx(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
