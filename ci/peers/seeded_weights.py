"""Weights and inputs from an integer hash: the same bits in Python and in Rust.

A ResNet-50 is 102 MB, too much to commit for a test. Both sides make the same
weights from this recipe instead, and compare a few kilobytes of logits.

The recipe, all integers being unsigned 32-bit with wrap-around:

1. Hash of the tensor's name: FNV-1a over the ASCII bytes of "<seed>:<name>",
   the seed in decimal, for example "0:layer1.0.conv1.weight".
       h = 0x811C9DC5;  for each byte b: h = (h ^ b) * 0x01000193
2. Element i (row-major index in the tensor), with MurmurHash3's finaliser:
       z = h + i * 0x9E3779B9
       z = (z ^ (z >> 16)) * 0x85EBCA6B
       z = (z ^ (z >> 13)) * 0xC2B2AE35
       z =  z ^ (z >> 16)
3. u = f32(z >> 8) * 2^-23 - 1, in [-1, 1); exact in f32.
4. The value, in f32, by the tensor's name and number of dimensions:
       *.running_mean              0.25 * u
       *.running_var               1 + 0.5 * u
       "input"                     2 * u
       4 dimensions (convolution)  sqrt(6 / (in_channels * height * width)) * u
       2 dimensions (fc.weight)    sqrt(3 / in_features) * u
       *.weight, 1 dimension       1 + 0.25 * u      (batch norm)
       *.bias                      0.125 * u
   Each square root is taken in f64 and rounded once to f32; each product is
   then one f32 multiplication, each sum one f32 addition.

The bound sqrt(6 / fan_in) is Kaiming's uniform one (He et al. 2015, "Delving
Deep into Rectifiers", section 2.2): activations keep their size from layer to
layer, so an error anywhere shows in the logits and none overflows in bf16.
Statistics are far from 0 and 1, so a wrong batch-norm fold shows as well.
FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/ ; the finaliser: fmix32 in
https://github.com/aappleby/smhasher/blob/master/src/MurmurHash3.cpp ; both are
in the public domain.
"""

import math

import numpy as np


def hash_units(seed, name, count):
    """Steps 1 to 3: f32 `[count]`, each in [-1, 1)."""
    h = 0x811C9DC5
    for byte in f"{seed}:{name}".encode("ascii"):
        h = ((h ^ byte) * 0x01000193) & 0xFFFFFFFF
    # uint32 arrays wrap around silently in NumPy, as the recipe wants.
    z = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(h)
    z = (z ^ (z >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    z = (z ^ (z >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    z = z ^ (z >> np.uint32(16))
    return (z >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)


def seeded_tensor(seed, name, shape):
    """Step 4: f32 of `shape`.

    * `seed`: non-negative int
    * `name`: a torchvision parameter or buffer name, or "input"
    * `shape`: its dimensions
    """
    u = hash_units(seed, name, math.prod(shape)).reshape(shape)
    if name == "input":
        return np.float32(2) * u
    if name.endswith(".running_mean"):
        return np.float32(0.25) * u
    if name.endswith(".running_var"):
        return np.float32(1) + np.float32(0.5) * u
    if len(shape) == 4:
        return np.float32(math.sqrt(6 / math.prod(shape[1:]))) * u
    if len(shape) == 2:
        return np.float32(math.sqrt(3 / shape[1])) * u
    if len(shape) == 1 and name.endswith(".weight"):
        return np.float32(1) + np.float32(0.25) * u
    if len(shape) == 1 and name.endswith(".bias"):
        return np.float32(0.125) * u
    raise ValueError(
        f"no rule for a tensor named {name!r} of shape {list(shape)}: expected the names of "
        "torchvision's ResNet (convolutions, batch norms, fc) or \"input\""
    )
