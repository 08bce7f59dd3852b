#!/usr/bin/env python3
"""Makes the numbers that the tests compare with: the same mathematics, by JAX.

    python3 -m venv jax-venv
    jax-venv/bin/pip install jax==0.10.2 safetensors==0.8.0
    jax-venv/bin/python tests/reference/make_jax_reference.py

writes, beside itself, `resnet.safetensors` and `operations.safetensors`. Both
are committed: no test needs Python.

Inputs and parameters are f32. Everything is then computed in f64, and what
comes out is rounded once to f32: the numbers carry no rounding but that last
one, and a test chooses its tolerance by its own arithmetic alone. The same
versions give the same bytes again.

Each file's metadata has one entry, `about`, with JSON: the `versions` that made
it and what is said of each file below.

resnet.safetensors: a training step of ResNet-18 for small images
    (width 4, 8x8x1, batch 4, 10 classes)
    Conv weights are OIHW and `fc.weight` is [out, in], as in a torchvision
    checkpoint, and NAME is torchvision's, such as `layer2.0.downsample.1.bias`.
    input                   f32 [4, 8, 8, 1]  NHWC
    labels                  i32 [4]
    parameter.NAME          f32               what is trained
    running.NAME            f32               `running_mean`, `running_var` before the step
    logits                  f32 [4, 10]       with batch statistics
    loss                    f32 []            mean cross-entropy, nats
    gradient.NAME           f32               d loss / d parameter.NAME
    updated.NAME            f32               `running_mean`, `running_var` after the step
    inference.logits        f32 [4, 10]       with `running.NAME`
    sgd.losses              f32 [5]           loss before step i on the same batch, i = 0..5
    adamw.losses            f32 [5]           likewise
    about: `network`, its sizes; `sgd` and `adamw`, the optimisers' settings.
    Weight decay falls on every parameter, as with `torch.optim` given
    `model.parameters()`.

operations.safetensors: one operation at a time
    convolution.CASE.{x, filter, y, cotangent, x_gradient, filter_gradient}
    max_pool.CASE.{x, y, cotangent, x_gradient}
    batch_norm.{x, weight, bias, mean, variance, y, cotangent,
                x_gradient, weight_gradient, bias_gradient, inference}
    softmax_cross_entropy.{logits, labels, loss, gradient}
    dot_general.{lhs, rhs, y, cotangent, lhs_gradient, rhs_gradient}
    gather_rows.{table, indices, y, cotangent, table_gradient}
    elementwise.{x, exp, log, rsqrt, sqrt, tanh}
    bf16.{x, rounded, sum, product}
    integers.{a, b, shift, signed, divisor, add, mul, shift_left,
              shift_right_logical, remainder, signed_remainder}
    threefry.{key, counters, bits}  the first half of the counters and of the
                              bits are first words, the second half second words
    random.{key, bits, uniform, folded}       the last by fold_in of 12345
    about: `convolution` and `max_pool`, CASE -> attributes.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import safetensors.numpy
from jax import lax
from jax.extend.random import threefry_2x32

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")

HERE = pathlib.Path(__file__).parent
SEED = 0

# ResNet-18: two blocks a stage.
BLOCKS = (2, 2, 2, 2)
WIDTH, SIDE, CHANNELS, BATCH, CLASSES = 4, 8, 1, 4, 10
# torchvision's and PyTorch's defaults.
EPSILON, MOMENTUM = 1e-5, 0.1

SGD = {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "steps": 5}
ADAMW = {"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8,
         "weight_decay": 1e-2, "steps": 5}


# The network. A layer is (convolution's name, batch norm's name, out, in, kernel, stride).


def layers():
    """The stem, and the blocks as (path, projection or None)."""
    stem = ("conv1", "bn1", WIDTH, CHANNELS, 3, 1)
    blocks, into = [], WIDTH
    for stage, count in enumerate(BLOCKS):
        out = WIDTH << stage
        for index in range(count):
            name = f"layer{stage + 1}.{index}"
            stride = 2 if stage > 0 and index == 0 else 1
            path = [
                (f"{name}.conv1", f"{name}.bn1", out, into, 3, stride),
                (f"{name}.conv2", f"{name}.bn2", out, out, 3, 1),
            ]
            projection = None
            if stride != 1 or into != out:
                projection = (f"{name}.downsample.0", f"{name}.downsample.1", out, into, 1, stride)
            blocks.append((path, projection))
            into = out
    return stem, blocks, into


def initial(random):
    """Parameters and running statistics, as f32.

    He's initialisation keeps the activations' size from layer to layer. Batch
    norms get weights about one and biases about zero, but neither exactly, so
    that a test sees a factor or an addend that was left out.
    """
    stem, blocks, features = layers()
    parameters, running = {}, {}
    everything = [stem] + [l for path, p in blocks for l in path + ([p] if p else [])]
    for conv, norm, out, into, kernel, _ in everything:
        scale = np.sqrt(2 / (into * kernel * kernel))
        parameters[f"{conv}.weight"] = scale * random.standard_normal((out, into, kernel, kernel))
        parameters[f"{norm}.weight"] = random.uniform(0.75, 1.25, out)
        parameters[f"{norm}.bias"] = 0.1 * random.standard_normal(out)
        running[f"{norm}.running_mean"] = 0.1 * random.standard_normal(out)
        running[f"{norm}.running_var"] = random.uniform(0.5, 1.5, out)
    parameters["fc.weight"] = random.standard_normal((CLASSES, features)) / np.sqrt(features)
    parameters["fc.bias"] = 0.1 * random.standard_normal(CLASSES)
    return f32(parameters), f32(running)


def convolution(x, weight, stride):
    """NHWC by an OIHW weight, "same" padding at stride 1."""
    pad = weight.shape[2] // 2
    return lax.conv_general_dilated(
        x, jnp.transpose(weight, (2, 3, 1, 0)), (stride, stride), [(pad, pad)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"))


def layer(spec, x, parameters, running, updated):
    """Convolution and batch norm. `updated` is None at inference."""
    conv, norm, _, _, _, stride = spec
    y = convolution(x, parameters[f"{conv}.weight"], stride)
    mean_name, variance_name = f"{norm}.running_mean", f"{norm}.running_var"
    if updated is None:
        mean, variance = running[mean_name], running[variance_name]
    else:
        count = y.shape[0] * y.shape[1] * y.shape[2]
        mean, variance = jnp.mean(y, (0, 1, 2)), jnp.var(y, (0, 1, 2))
        # PyTorch normalises by the variance over n and keeps the one over n - 1.
        unbiased = variance * count / (count - 1)
        updated[mean_name] = (1 - MOMENTUM) * running[mean_name] + MOMENTUM * mean
        updated[variance_name] = (1 - MOMENTUM) * running[variance_name] + MOMENTUM * unbiased
    scale = parameters[f"{norm}.weight"] / jnp.sqrt(variance + EPSILON)
    return (y - mean) * scale + parameters[f"{norm}.bias"]


def forward(parameters, running, x, train):
    """Logits and the updated running statistics."""
    stem, blocks, _ = layers()
    updated = {} if train else None
    x = jax.nn.relu(layer(stem, x, parameters, running, updated))
    for path, projection in blocks:
        y = jax.nn.relu(layer(path[0], x, parameters, running, updated))
        y = layer(path[1], y, parameters, running, updated)
        if projection:
            x = layer(projection, x, parameters, running, updated)
        x = jax.nn.relu(x + y)
    features = jnp.mean(x, (1, 2))
    return features @ parameters["fc.weight"].T + parameters["fc.bias"], updated


def cross_entropy(logits, labels):
    """Mean over the batch, in nats."""
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
    return -jnp.mean(picked)


def loss(parameters, running, x, labels):
    logits, updated = forward(parameters, running, x, True)
    return cross_entropy(logits, labels), (logits, updated)


# Optimisers, as torch.optim writes them.


def sgd_losses(step, parameters):
    velocity = {name: 0.0 for name in parameters}
    losses = []
    for _ in range(SGD["steps"]):
        value, gradients = step(parameters)
        losses.append(value)
        for name, gradient in gradients.items():
            gradient = gradient + SGD["weight_decay"] * parameters[name]
            velocity[name] = SGD["momentum"] * velocity[name] + gradient
        parameters = {n: p - SGD["learning_rate"] * velocity[n] for n, p in parameters.items()}
    return jnp.stack(losses)


def adamw_losses(step, parameters):
    first = {name: 0.0 for name in parameters}
    second = {name: 0.0 for name in parameters}
    b1, b2, rate = ADAMW["beta1"], ADAMW["beta2"], ADAMW["learning_rate"]
    losses = []
    for t in range(1, ADAMW["steps"] + 1):
        value, gradients = step(parameters)
        losses.append(value)
        after = {}
        for name, p in parameters.items():
            first[name] = b1 * first[name] + (1 - b1) * gradients[name]
            second[name] = b2 * second[name] + (1 - b2) * gradients[name] ** 2
            root = jnp.sqrt(second[name] / (1 - b2 ** t)) + ADAMW["epsilon"]
            p = p * (1 - rate * ADAMW["weight_decay"])
            after[name] = p - rate * first[name] / (1 - b1 ** t) / root
        parameters = after
    return jnp.stack(losses)


def resnet():
    random = np.random.default_rng(SEED)
    parameters, running = initial(random)
    x = f32(random.standard_normal((BATCH, SIDE, SIDE, CHANNELS)))
    labels = random.integers(0, CLASSES, BATCH).astype(np.int32)

    wide, wide_running = f64(parameters), f64(running)
    derive = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, (logits, updated)), gradients = derive(wide, wide_running, f64(x), labels)
    inference, _ = forward(wide, wide_running, f64(x), False)

    def step(parameters):
        (value, _), gradients = derive(parameters, wide_running, f64(x), labels)
        return value, gradients

    tensors = {
        "input": x, "labels": labels, "logits": logits, "loss": value,
        "inference.logits": inference,
        "sgd.losses": sgd_losses(step, wide), "adamw.losses": adamw_losses(step, wide),
    }
    for prefix, group in (("parameter", parameters), ("running", running),
                          ("gradient", gradients), ("updated", updated)):
        tensors |= {f"{prefix}.{name}": value for name, value in group.items()}
    save("resnet.safetensors", tensors, {
        "sgd": SGD, "adamw": ADAMW,
        "network": {"width": WIDTH, "side": SIDE, "channels": CHANNELS, "batch": BATCH,
                    "classes": CLASSES, "epsilon": EPSILON, "momentum": MOMENTUM},
    })


# One operation at a time.

NHWC = ["NHWC", "HWIO", "NHWC"]
CONVOLUTIONS = {
    # name: x, filter, strides, padding, lhs dilation, rhs dilation, dimensions
    "same": ((2, 5, 4, 3), (3, 3, 3, 2), (1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1), NHWC),
    "strided": ((2, 7, 6, 2), (3, 3, 2, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), (1, 1), NHWC),
    "projection": ((2, 4, 4, 3), (1, 1, 3, 4), (2, 2), ((0, 0), (0, 0)), (1, 1), (1, 1), NHWC),
    "one_pixel": ((3, 1, 1, 4), (3, 3, 4, 2), (1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1), NHWC),
    "uneven": ((1, 6, 5, 2), (2, 3, 2, 2), (1, 2), ((0, 2), (1, 0)), (1, 1), (1, 1), NHWC),
    "cropped": ((1, 6, 6, 1), (3, 3, 1, 2), (1, 1), ((-1, 1), (0, -1)), (1, 1), (1, 1), NHWC),
    "dilated_input": ((1, 4, 3, 2), (3, 2, 2, 2), (1, 1), ((1, 2), (0, 1)), (2, 3), (1, 1), NHWC),
    "dilated_filter": ((1, 7, 8, 2), (3, 2, 2, 2), (2, 1), ((2, 1), (1, 1)), (1, 1), (2, 3), NHWC),
    "nchw": ((2, 3, 5, 4), (2, 3, 3, 3), (1, 2), ((1, 1), (1, 1)), (1, 1), (1, 1),
             ["NCHW", "OIHW", "NCHW"]),
    "chwn": ((3, 5, 5, 2), (3, 3, 3, 2), (2, 1), ((1, 0), (1, 1)), (1, 1), (1, 1),
             ["CHWN", "IHWO", "HWNC"]),
}
MAX_POOLS = {
    # name: x, window, strides, padding
    "halving": ((2, 4, 6, 2), (2, 2), (2, 2), ((0, 0), (0, 0))),
    "stem": ((1, 7, 8, 2), (3, 3), (2, 2), ((1, 1), (1, 1))),
    "overlapping": ((1, 5, 5, 1), (3, 2), (1, 1), ((1, 0), (0, 1))),
    # Small whole numbers: most windows hold their maximum twice.
    "ties": ((1, 8, 8, 1), (3, 3), (2, 2), ((1, 1), (1, 1))),
}


def convolutions(random, tensors):
    about = {}
    for case, (x_dims, w_dims, strides, padding, lhs, rhs, dims) in CONVOLUTIONS.items():
        x, w = f32(random.standard_normal(x_dims)), f32(random.standard_normal(w_dims))

        def apply(x, w):
            return lax.conv_general_dilated(x, w, strides, padding, lhs, rhs,
                                            dimension_numbers=tuple(dims))

        y, (ct, dx, dw) = derivatives(random, apply, x, w)
        tensors |= named(f"convolution.{case}", x=x, filter=w, y=y, cotangent=ct,
                         x_gradient=dx, filter_gradient=dw)
        about[case] = {"strides": strides, "padding": padding, "lhs_dilation": lhs,
                       "rhs_dilation": rhs, "dimensions": dims}
    return about


def max_pools(random, tensors):
    about = {}
    for case, (dims, window, strides, padding) in MAX_POOLS.items():
        x = random.integers(0, 3, dims) if case == "ties" else random.standard_normal(dims)
        x = f32(x)

        def apply(x):
            return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1),
                                     ((0, 0), *padding, (0, 0)))

        y, (ct, dx) = derivatives(random, apply, x)
        tensors |= named(f"max_pool.{case}", x=x, y=y, cotangent=ct, x_gradient=dx)
        about[case] = {"window": window, "strides": strides, "padding": padding}
    return about


def batch_norm(random, tensors):
    x = f32(1 + 2 * random.standard_normal((3, 2, 4, 3)))
    weight, bias = f32(random.uniform(0.5, 1.5, 3)), f32(random.standard_normal(3))

    def apply(x, weight, bias):
        mean, variance = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
        return (x - mean) / jnp.sqrt(variance + EPSILON) * weight + bias

    y, (ct, dx, dw, db) = derivatives(random, apply, x, weight, bias)
    mean, variance = f32(random.standard_normal(3)), f32(random.uniform(0.5, 1.5, 3))
    inference = (f64(x) - mean) / np.sqrt(f64(variance) + EPSILON) * weight + bias
    tensors |= named("batch_norm", x=x, weight=weight, bias=bias, mean=mean, variance=variance,
                     y=y, cotangent=ct, x_gradient=dx, weight_gradient=dw, bias_gradient=db,
                     inference=inference)


def softmax_cross_entropy(random, tensors):
    logits = 3 * random.standard_normal((5, 7))
    # exp(1000) is infinite in f32 and in f64: the maximum must be taken out first.
    logits[1, 2] = 1000
    logits[2, 3] = -1000
    logits, labels = f32(logits), np.array([0, 2, 3, 6, 1], np.int32)
    value, gradient = jax.value_and_grad(cross_entropy)(f64(logits), labels)
    tensors |= named("softmax_cross_entropy", logits=logits, labels=labels, loss=value,
                     gradient=gradient)


def dot_general(random, tensors):
    """Batch dimension 1 of lhs with 0 of rhs, contracting 0 with 2 and 3 with 1."""
    lhs, rhs = f32(random.standard_normal((3, 2, 4, 5))), f32(random.standard_normal((2, 5, 3, 3)))
    dims = (((0, 3), (2, 1)), ((1,), (0,)))
    y, (ct, dl, dr) = derivatives(random, lambda a, b: lax.dot_general(a, b, dims), lhs, rhs)
    tensors |= named("dot_general", lhs=lhs, rhs=rhs, y=y, cotangent=ct, lhs_gradient=dl,
                     rhs_gradient=dr)


def gather_rows(random, tensors):
    table, indices = f32(random.standard_normal((6, 2, 2))), np.array([4, 0, 4, 5], np.int32)
    y, (ct, dt) = derivatives(random, lambda t: t[indices], table)
    tensors |= named("gather_rows", table=table, indices=indices, y=y, cotangent=ct,
                     table_gradient=dt)


def elementwise(random, tensors):
    x = f32(np.concatenate([[1e-6, 1, 80], random.uniform(0.01, 10, 13)]))
    wide = f64(x)
    tensors |= named("elementwise", x=x, exp=np.exp(wide), log=np.log(wide),
                     rsqrt=1 / np.sqrt(wide), sqrt=np.sqrt(wide), tanh=np.tanh(wide))


def bf16(random, tensors):
    """Rounding to nearest, ties to even; a sum and a product round once more."""
    # 1 + 2^-8 lies half-way between 1 and 1 + 2^-7, and 1 + 3 * 2^-8 half-way too.
    ties = [1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8, 3.4e38, -0.0, 1e-30]
    x = np.concatenate([ties, random.standard_normal(10)]).astype(np.float32)
    rounded = jnp.asarray(x, jnp.bfloat16)
    tensors |= named("bf16", x=x)
    # Kept by their bits, which safetensors for NumPy can hold.
    for name, value in (("rounded", rounded), ("sum", rounded + rounded[::-1]),
                        ("product", rounded * rounded[::-1])):
        tensors[f"bf16.{name}"] = np.asarray(lax.bitcast_convert_type(value, jnp.uint16))


def integers(random, tensors):
    a = np.array([0, 1, 7, 0xFFFFFFFF, 0x80000000, 0x12345678, 0xDEADBEEF, 3], np.uint32)
    b = np.array([5, 0xFFFFFFFF, 2, 2, 2, 0x9E3779B9, 1000, 7], np.uint32)
    shift = np.array([0, 1, 31, 32, 33, 13, 0xFFFFFFFF, 4], np.uint32)
    signed, divisor = a.astype(np.int32), np.array([5, -1, 2, -2, 7, 1000, 1000, -2], np.int32)
    tensors |= named("integers", a=a, b=b, shift=shift, signed=signed, divisor=divisor)
    for name, value in (
            ("add", lax.add(a, b)), ("mul", lax.mul(a, b)),
            ("shift_left", lax.shift_left(a, shift)),
            ("shift_right_logical", lax.shift_right_logical(a, shift)),
            ("remainder", lax.rem(a, b)), ("signed_remainder", lax.rem(signed, divisor))):
        tensors[f"integers.{name}"] = np.asarray(value)


def threefry(random, tensors):
    key = np.array([0x12345678, 0x9ABCDEF0], np.uint32)
    counters = np.arange(16, dtype=np.uint32)
    counters[8:] *= 0x10001
    tensors |= named("threefry", key=key, counters=counters,
                     bits=np.asarray(threefry_2x32(key, counters)))


def random_numbers(random, tensors):
    """What jax.random makes of a key: JAX's own way of counting."""
    data = np.array([7, 0x80000001], np.uint32)
    key = jax.random.wrap_key_data(data, impl="threefry2x32")
    tensors |= named(
        "random", key=data, bits=np.asarray(jax.random.bits(key, (5, 3), jnp.uint32)),
        uniform=np.asarray(jax.random.uniform(key, (4, 4), jnp.float32)),
        folded=np.asarray(jax.random.key_data(jax.random.fold_in(key, 12345))))


def operations():
    random, tensors = np.random.default_rng(SEED + 1), {}
    about = {"convolution": convolutions(random, tensors),
             "max_pool": max_pools(random, tensors)}
    for add in (batch_norm, softmax_cross_entropy, dot_general, gather_rows, elementwise, bf16,
                integers, threefry, random_numbers):
        add(random, tensors)
    save("operations.safetensors", tensors, about)


# Dtypes, derivatives, files.


def f32(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float32), tree)


def f64(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def derivatives(random, function, *arguments):
    """The function's value, a random cotangent, and each argument's gradient."""
    y, pull_back = jax.vjp(function, *f64(arguments))
    cotangent = f32(random.standard_normal(y.shape))
    return y, (cotangent, *pull_back(f64(cotangent)))


def named(prefix, **tensors):
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def save(name, tensors, about):
    def stored(value):
        value = np.asarray(value)
        value = value.astype(np.float32) if value.dtype == np.float64 else value
        # safetensors writes the buffer as it lies; a transposed view would be wrong.
        return np.ascontiguousarray(value).reshape(value.shape)

    about = {"made_by": pathlib.Path(__file__).name,
             "versions": {"jax": jax.__version__, "jaxlib": jaxlib.__version__,
                          "numpy": np.__version__, "safetensors": safetensors.__version__},
             **about}
    path = HERE / name
    # One entry: safetensors writes several in an order that changes from run to run.
    safetensors.numpy.save_file({n: stored(v) for n, v in tensors.items()}, path,
                                {"about": json.dumps(about)})
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes")


if __name__ == "__main__":
    resnet()
    operations()
