"""torchvision's ResNet with the two stems and any width, from a weights file.

torchvision fixes the stem (7x7 stride 2, then max-pool) and the width (64).
Images of 8x8 to 32x32 take the small stem: a 3x3 convolution of stride 1 and no
max-pool, as in section 4.2 of He et al. 2015, "Deep Residual Learning". Blocks,
forward pass and parameter names are torchvision's own.
"""

import numpy as np
import safetensors.numpy
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from seeded_weights import seeded_tensor

LAYERS = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}
STEMS = ("imagenet", "small")


class StemResNet(ResNet):
    """A ResNet with a chosen stem, width, input channels and classes.

    * `arch`: a key of `LAYERS`
    * `stem`: "imagenet" or "small"
    * `width`: channels after the stem; torchvision's is 64
    """

    def __init__(self, arch, stem, width=64, channels=3, classes=1000):
        if arch not in LAYERS:
            raise ValueError(f"unknown arch {arch!r}: expected one of {', '.join(LAYERS)}")
        if stem not in STEMS:
            raise ValueError(f"unknown stem {stem!r}: expected one of {', '.join(STEMS)}")
        block, layers = LAYERS[arch]
        # ResNet.__init__ hard-codes width 64, so its body is repeated here with
        # the width free; _make_layer and forward are inherited.
        nn.Module.__init__(self)
        self._norm_layer = nn.BatchNorm2d
        self.inplanes = width
        self.dilation = 1
        self.groups = 1
        self.base_width = 64  # of Bottleneck's inner convolutions, relative to planes
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = nn.Conv2d(channels, width, 3, stride=1, padding=1, bias=False)
            self.maxpool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self._make_layer(block, width, layers[0])
        self.layer2 = self._make_layer(block, width * 2, layers[1], stride=2)
        self.layer3 = self._make_layer(block, width * 4, layers[2], stride=2)
        self.layer4 = self._make_layer(block, width * 8, layers[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(width * 8 * block.expansion, classes)


def parameter_shapes(model):
    """{name: shape} of everything a weights file holds; torch's own training
    counters (`num_batches_tracked`) are left out, as inference never reads them."""
    return {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def seeded_weights(model, seed):
    """{name: f32 array} for every parameter and buffer of `model`."""
    return {name: seeded_tensor(seed, name, shape) for name, shape in parameter_shapes(model).items()}


def load_arrays(model, arrays):
    """Puts `arrays` into `model` and sets it to evaluation.

    Raises ValueError that lists every missing, unexpected and misshaped tensor.
    """
    expected = parameter_shapes(model)
    arrays = {name: a for name, a in arrays.items() if not name.endswith("num_batches_tracked")}
    faults = [f"missing {name} {list(shape)}" for name, shape in expected.items() if name not in arrays]
    faults += [f"unexpected {name} {list(a.shape)}" for name, a in arrays.items() if name not in expected]
    faults += [
        f"{name}: expected {list(shape)}, got {list(arrays[name].shape)}"
        for name, shape in expected.items()
        if name in arrays and tuple(arrays[name].shape) != shape
    ]
    if faults:
        raise ValueError("the weights do not fit the model: " + "; ".join(faults))
    tensors = {name: torch.from_numpy(np.array(a, dtype=np.float32)) for name, a in arrays.items()}
    model.load_state_dict(tensors, strict=False)
    return model.eval()


def build(arch, stem, weights=None, seed=0):
    """A ResNet in evaluation mode.

    * `weights`: path of a safetensors file with torchvision's names, which also
      says width, channels and classes; None for seeded weights of torchvision's
      sizes
    """
    if weights is None:
        model = StemResNet(arch, stem)
        return load_arrays(model, seeded_weights(model, seed))
    arrays = safetensors.numpy.load_file(weights)
    for name in ("conv1.weight", "fc.weight"):
        if name not in arrays:
            raise ValueError(f"{weights} has no tensor {name!r}: expected torchvision's ResNet names")
    width, channels = arrays["conv1.weight"].shape[:2]
    return load_arrays(StemResNet(arch, stem, width, channels, arrays["fc.weight"].shape[0]), arrays)
