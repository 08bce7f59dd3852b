"""Training in JAX, as a user of JAX would write it: NHWC, lax.conv, one jitted step.

`jax-step` calls the jitted step once a step and does not wait for it; `jax-scan` runs the
steps of a sample in one call, by lax.scan. Both donate weights and speeds, keep the data
set on the device and take batches by dynamic_slice.
"""

import os
import time

import numpy as np

import protocol

EPSILON = 1e-5
STATISTICS_RATE = 0.1


def to_jax(name, values):
    """OIHW to HWIO, and a matrix as [in, out]."""
    if values.ndim == 4:
        return values.transpose(2, 3, 1, 0)
    return values.T if values.ndim == 2 else values


def to_torch(name, values):
    """The inverse of `to_jax`."""
    if values.ndim == 4:
        return values.transpose(3, 2, 0, 1)
    return values.T if values.ndim == 2 else values


class Jax:
    """One training in JAX; see `Worker` in train_resnet.py for what it answers."""

    def __init__(self, spec, weights, images, labels):
        if spec["device"] == "cpu":
            # XLA's CPU client takes a thread a core that the process may run on.
            cores = sorted(os.sched_getaffinity(0))
            if len(cores) < spec["threads"]:
                raise protocol.Unsupported(f"{spec['threads']} threads wanted, {len(cores)} cores to be had")
            os.sched_setaffinity(0, cores[: spec["threads"]])
        os.environ["JAX_PLATFORMS"] = spec["device"]
        import jax
        import jax.numpy as jnp

        self.jax, self.jnp = jax, jnp
        self.spec = spec
        self.scan = spec["engine"] == "jax-scan"
        self.versions = {"jax": jax.__version__, "jaxlib": jax.lib.__version__}
        self.settings = {"layout": "NHWC", "xla_platform": jax.devices()[0].platform}
        self.compute = jnp.bfloat16 if spec["precision"] == "bf16" else jnp.float32
        self.start = {name: to_jax(name, values) for name, values in weights.items()}
        self.blocks = sorted(
            {name.rsplit(".conv1", 1)[0] for name in weights if name.startswith("layer") and ".conv1." in name},
            key=lambda name: [int(part) for part in name[len("layer"):].split(".")],
        )
        self.data = (jnp.asarray(images), jnp.asarray(labels))
        self.rows = len(labels)
        self.reset()
        begin = time.perf_counter()
        program = self.many_steps if self.scan else self.step
        self.program = jax.jit(program, donate_argnums=0).lower(self.state, self.data).compile()
        self.compile_seconds = time.perf_counter() - begin

    def reset(self):
        """Back to the weights file, with speeds of zero, before the first batch."""
        jnp = self.jnp
        learned = {name: values for name, values in self.start.items() if "running" not in name}
        self.state = {
            "learned": {name: jnp.array(values) for name, values in learned.items()},
            "speeds": {name: jnp.zeros_like(values) for name, values in learned.items()},
            "running": {name: jnp.array(values) for name, values in self.start.items() if "running" in name},
            "row": jnp.zeros((), jnp.int32),
        }

    def steps(self, count):
        losses = []
        if self.scan:
            for _ in range(count // self.spec["steps_per_sample"]):
                self.state, several = self.program(self.state, self.data)
                losses.append(several)
        else:
            for _ in range(count):
                self.state, loss = self.program(self.state, self.data)
                losses.append(loss)
        self.jax.block_until_ready(self.state)
        return np.concatenate([np.atleast_1d(np.asarray(loss)) for loss in losses])

    def parameters(self):
        both = self.state["learned"] | self.state["running"]
        return {name: to_torch(name, np.asarray(values)) for name, values in both.items()}

    def many_steps(self, state, data):
        body = lambda state, _: self.step(state, data)
        return self.jax.lax.scan(body, state, None, length=self.spec["steps_per_sample"])

    def step(self, state, data):
        jax, optimizer = self.jax, self.spec["optimizer"]
        batch = self.spec["batch"]
        images, labels = (jax.lax.dynamic_slice_in_dim(all_, state["row"], batch) for all_ in data)
        (loss, running), gradients = jax.value_and_grad(self.loss, has_aux=True)(
            state["learned"], state["running"], images, labels
        )
        speeds, learned = {}, {}
        for name, weight in state["learned"].items():
            gradient = gradients[name] + optimizer["weight_decay"] * weight
            speeds[name] = optimizer["momentum"] * state["speeds"][name] + gradient
            learned[name] = weight - optimizer["learning_rate"] * speeds[name]
        row = (state["row"] + batch) % self.rows
        return {"learned": learned, "speeds": speeds, "running": running, "row": row}, loss

    def loss(self, learned, running, images, labels):
        jax, jnp = self.jax, self.jnp
        logits, running = self.forward(learned, running, images)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
        return -chosen.mean(), running

    def forward(self, learned, running, images):
        jax, jnp = self.jax, self.jnp
        fresh = {}

        def conv(name, x, stride):
            padding = "SAME" if learned[name].shape[0] == 1 else ((1, 1), (1, 1))
            return jax.lax.conv_general_dilated(
                x, learned[name].astype(self.compute), (stride, stride), padding,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )

        def norm(name, x):
            x = x.astype(jnp.float32)
            mean = x.mean((0, 1, 2))
            variance = jnp.square(x - mean).mean((0, 1, 2))
            count = x.size // x.shape[-1]
            for kind, value in (("running_mean", mean), ("running_var", variance * (count / max(count - 1, 1)))):
                old = running[f"{name}.{kind}"]
                fresh[f"{name}.{kind}"] = (1 - STATISTICS_RATE) * old + STATISTICS_RATE * value
            scale = learned[f"{name}.weight"] * jax.lax.rsqrt(variance + EPSILON)
            return ((x - mean) * scale + learned[f"{name}.bias"]).astype(self.compute)

        x = jax.nn.relu(norm("bn1", conv("conv1.weight", images.astype(self.compute), 1)))
        for name in self.blocks:
            shortcut = f"{name}.downsample.0.weight"
            stride = 2 if shortcut in learned else 1
            y = jax.nn.relu(norm(f"{name}.bn1", conv(f"{name}.conv1.weight", x, stride)))
            y = norm(f"{name}.bn2", conv(f"{name}.conv2.weight", y, 1))
            if stride == 2:
                x = norm(f"{name}.downsample.1", conv(shortcut, x, 2))
            x = jax.nn.relu(x + y)
        pooled = x.astype(jnp.float32).mean((1, 2)).astype(self.compute)
        logits = pooled @ learned["fc.weight"].astype(self.compute)
        return logits.astype(jnp.float32) + learned["fc.bias"], fresh
