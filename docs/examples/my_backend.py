"""A backend in NumPy whose only network is a linear classifier of an image's mean colour."""

from types import SimpleNamespace

import numpy as np

from finetune_bench.plugin import Effective, Layer, Model, Tensor, factors


class Session:
    batch_layout, wall_part, head_features = "nhwc", "step", 3

    def __init__(self, classes):
        self.scale = np.ones(3, np.float32)  # the backbone: one factor per colour
        self.weight, self.bias = np.zeros((classes, 3), np.float32), np.zeros(classes, np.float32)
        self.momentum = {}

    def train(self, stage, feed, clock):
        self.momentum = {t.name: {} for t in self.state() if not stage.is_frozen(t.part, t.block)}
        rate = iter(factors(stage.schedule, stage.epochs, feed.steps_per_epoch))
        for epoch in range(stage.epochs):
            batches = feed.epoch(epoch)
            clock.epoch_begin()
            for batch in batches:
                clock.tick(self.step(batch, stage, next(rate)))
            clock.epoch_end()

    def step(self, batch, stage, factor):
        colour = batch.inputs.mean((1, 2))
        logits = colour * self.scale @ self.weight.T + self.bias
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        rows = np.arange(len(shares))
        loss = -np.log(shares[rows, batch.labels]).mean()
        shares[rows, batch.labels] -= 1
        slope = shares / len(shares)
        gradients = {"scale": ((slope @ self.weight) * colour).sum(0), "head.bias": slope.sum(0)}
        gradients["head.weight"] = slope.T @ (colour * self.scale)
        for tensor in list(self.state()):
            if tensor.name in self.momentum:
                rate = stage.learning_rate(tensor.part) * factor
                tensor.array[...] -= (rate * gradients[tensor.name]).astype(np.float32)
        return loss

    def predict(self, images):
        return images.mean((1, 2)) * self.scale @ self.weight.T + self.bias

    def state(self):
        yield Tensor("scale", self.scale, "backbone", 0, "weight")
        yield Tensor("head.weight", self.weight, "head", -1, "weight")
        yield Tensor("head.bias", self.bias, "head", -1, "bias")

    def load(self, arrays):
        for tensor in self.state():
            if tensor.name in arrays:
                tensor.array[...] = arrays[tensor.name]

    def slots(self):
        return self.momentum

    def sync(self): ...

    def compile_events(self):
        return 0

    def device_memory(self):
        return None

    def effective(self):
        return Effective(
            device="cpu", device_name="numpy", precision="fp32", layout="channels-last", compile="none", threads=1
        )

    def layers(self):
        return [Layer("head", "Linear", (len(self.bias),), self.weight.size + self.bias.size, self.weight.size)]

    def save_native(self, folder):
        np.savez(f"{folder}/model.npz", **{tensor.name: tensor.array for tensor in self.state()})
        return "model.npz"

    def load_native(self, path):
        with np.load(path) as arrays:
            self.load(dict(arrays))


def decline(case):
    return None if (case.device, case.precision) == ("cpu", "fp32") else "mean-colour runs on the CPU in fp32 only"


def open_session(case, model, classes):
    return Session(classes)


MEAN_COLOUR = Model(name="mean-colour", build=Session, classifier="head.", blocks=1, minimum_size=8, gmacs=0.001)
BACKENDS = {
    "mean-colour": SimpleNamespace(
        MODELS={"mean-colour": MEAN_COLOUR},
        PACKAGES=("numpy",),
        ENGINES=(),
        FORMATS=(),
        decline=decline,
        open_session=open_session,
    )
}
