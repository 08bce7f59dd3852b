"""Training in PyTorch: as it comes, in channels-last layout, or compiled by inductor.

Model and optimiser are torchvision's ResNet (resnet.py) and torch.optim.SGD with its fused
update. On a GPU bf16 is autocast, as PyTorch recommends.
"""

import time

import numpy as np

import protocol


class PyTorch:
    """One training in PyTorch; see `Worker` in train_resnet.py for what it answers."""

    def __init__(self, spec, weights, images, labels):
        import torch

        import resnet

        self.torch, self.resnet, self.spec = torch, resnet, spec
        torch.set_num_threads(spec["threads"])
        if torch.get_num_interop_threads() != 1:  # can be set once a process
            torch.set_num_interop_threads(1)
        if spec["device"] == "cuda":
            if not torch.cuda.is_available():
                raise protocol.Unsupported("this PyTorch sees no GPU")
            torch.backends.cudnn.benchmark = True
        elif spec["precision"] != "f32":
            raise protocol.Unsupported("bf16 training is measured on GPUs only")
        self.device = torch.device(spec["device"])
        self.versions = {"torch": torch.__version__}
        self.settings = {"optimizer": "fused"}
        if spec["device"] == "cpu":
            self.settings["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
        self.start = weights
        channels_last = spec["engine"] != "pytorch-eager"
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.settings["layout"] = "channels-last" if channels_last else "NCHW"
        self.model = resnet.StemResNet(spec["arch"], spec["stem"], spec["width"], spec["channels"], spec["classes"])
        self.model = self.model.to(self.device, memory_format=layout)
        nchw = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        self.images = nchw.to(self.device, memory_format=layout)
        self.labels = torch.from_numpy(labels).long().to(self.device)
        self.loss = self.plain_loss
        self.reset()
        self.compile_seconds = None
        if spec["engine"] == "pytorch-compile":
            # On a GPU also the choice of kernels by measurement, and CUDA graphs.
            mode = "max-autotune" if spec["device"] == "cuda" else "default"
            self.settings["mode"] = mode
            self.loss = torch.compile(self.plain_loss, backend="inductor", dynamic=False, mode=mode)
            begin = time.perf_counter()
            self.steps(1)
            self.compile_seconds = time.perf_counter() - begin
            self.reset()

    def reset(self):
        """Back to the weights file, with speeds of zero, before the first batch."""
        self.resnet.load_arrays(self.model, self.start).train()
        optimizer = self.spec["optimizer"]
        self.optimizer = self.torch.optim.SGD(
            self.model.parameters(), lr=optimizer["learning_rate"], momentum=optimizer["momentum"],
            weight_decay=optimizer["weight_decay"], fused=True,
        )
        self.row = 0

    def plain_loss(self, images, labels):
        torch = self.torch
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.spec["precision"] == "bf16"):
            logits = self.model(images)
        return torch.nn.functional.cross_entropy(logits.float(), labels)

    def steps(self, count):
        torch, batch = self.torch, self.spec["batch"]
        losses = []
        for _ in range(count):
            rows = slice(self.row, self.row + batch)
            loss = self.loss(self.images[rows], self.labels[rows])
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            # A clone: CUDA graphs write the next loss to the same place.
            losses.append(loss.detach().clone())
            self.row = (self.row + batch) % len(self.labels)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return torch.stack(losses).cpu().numpy()

    def parameters(self):
        state = self.model.state_dict()
        kept = (name for name in self.resnet.parameter_shapes(self.model))
        return {name: np.asarray(state[name].detach().cpu()) for name in kept}
