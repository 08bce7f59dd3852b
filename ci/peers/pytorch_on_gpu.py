"""PyTorch on an NVIDIA GPU: as it comes, in channels-last layout, or compiled.

Eager runs as PyTorch comes: NCHW, cuDNN's choice of algorithms by its heuristics, f32
convolutions in TF32. Channels-last lets cuDNN try its algorithms out, too. Compiled is
torch.compile with frozen weights in channels-last and mode "max-autotune": kernels chosen
by measurement, and CUDA graphs.
"""

import torch
import torchvision

import resnet
from protocol import Unsupported

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


class PyTorchOnGpu:
    """One network; see `Worker` in infer_resnet.py for what it answers.

    * `make_input`: (spec, channels) to the fixed batch, f32 NCHW
    """

    def __init__(self, engine, spec, make_input):
        if not torch.cuda.is_available():
            raise Unsupported("this PyTorch sees no GPU")
        self.dtype = DTYPES[spec["dtype"]]
        if self.dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise Unsupported("this GPU has no bf16")
        torch.set_num_threads(spec["threads"])
        torch.set_grad_enabled(False)
        self.device = torch.device("cuda")
        self.versions = {
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
        }
        eager = engine == "pytorch-eager"
        torch.backends.cudnn.benchmark = not eager
        self.layout = torch.contiguous_format if eager else torch.channels_last
        self.settings = {
            "device_name": torch.cuda.get_device_name(),
            "layout": "NCHW" if eager else "channels-last",
            "cudnn_benchmark": str(not eager).lower(),
        }
        if spec["dtype"] == "f32":
            self.settings["convolution_tf32"] = str(torch.backends.cudnn.allow_tf32).lower()
        model = resnet.build(spec["arch"], spec["stem"], spec["weights"])
        self.input = make_input(spec, model.conv1.in_channels)
        self.model = model.to(self.device, self.dtype, memory_format=self.layout)
        if engine == "torch-compile":
            import torch._inductor.config as inductor

            inductor.freezing = True
            self.model = torch.compile(self.model, backend="inductor", dynamic=False, mode="max-autotune")
            self.settings |= {"freezing": "true", "mode": "max-autotune"}
        self.prepared = self.prepare(self.input)

    def prepare(self, images):
        """The batch on the device, in the engine's layout and dtype."""
        batch = torch.from_numpy(images).to(self.device, self.dtype).contiguous(memory_format=self.layout)
        torch.cuda.synchronize()
        return batch

    def infer(self, prepared):
        # The copy to the host waits for the device.
        return self.model(prepared).float().cpu().numpy()
