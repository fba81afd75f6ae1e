"""The script of a Keras case, for keras and Pillow, on any engine of Keras."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from string import Template

from backends.keras3.models import MODELS as OFFERED
from backends.keras3.models.mobilenet_v2 import WEIGHT_MAP
from harness.errors import Declined
from harness.spec import Augmentation, Case
from results.exports.scripts.settings import (
    DEFAULTS,
    Described,
    call,
    complete_augmentations,
    constants,
    docstring,
    joined,
    side,
)

MODELS = tuple(name for name in OFFERED if name.startswith("mobilenet-v2"))
"""The models that a script can build: those that keras.applications has with the inputs of the checkpoints."""
ENDING = ".weights.h5"
"""Of the file of weights."""


def script(described: Described) -> str:
    """Return the script. Raise `Declined` for a model or a way of freezing that it cannot reproduce."""
    case = described.case
    _refuse(case)
    weights = f" --weights {described.weights}" if described.weights else ""
    engine = f"KERAS_BACKEND={case.engine} " if case.engine else ""
    notes = [] if described.whole_backbone_frozen and case.scenario.stages[0].norm != "batch" else [_BIASED]
    start = (
        docstring(described, f"{engine}python {described.file} --data FOLDER{weights}", "keras and Pillow", notes),
        _imports(described),
        _constants(described),
    )
    return joined(
        "\n".join(start),
        _images(described),
        _model(described),
        _rule(described),
        _schedule(described),
        _optimizer(described),
        _train(described),
        _main(described),
        'if __name__ == "__main__":\n    main()',
    )


_BIASED = "The moving variance of Keras' batch norm is biased; that of the run is not, as in torch."


def _refuse(case: Case) -> None:
    if case.model not in MODELS:
        raise Declined(f"--to script: no Keras script for {case.model}, only for {', '.join(MODELS)}")
    stages, schedule = case.scenario.stages, case.scenario.stages[0].schedule
    part = isinstance(stages[0].frozen, int) or stages[0].norm == "batch"
    reasons = {
        "weights that train while their batch norm is in inference mode": any(
            stage.norm == "frozen" and stage.frozen != "backbone" for stage in stages
        ),
        "label smoothing": any(stage.label_smoothing for stage in stages),
        f"a warm-up before the schedule {schedule.name}": schedule.warmup_steps > 0 and schedule.name != "cosine",
        "several stages that freeze a part of the backbone": len(stages) > 1 and part,
        "plain SGD without momentum": stages[0].optimizer.name == "sgd" and not stages[0].optimizer.momentum,
    }
    for what, present in reasons.items():
        if present:
            raise Declined(f"--to script: {what}: not supported for Keras; choose another case")


def _imports(described: Described) -> str:
    changes = {one.name for one in described.case.augment}
    math = described.stages[0].schedule.name == "cosine" or "shear" in changes
    lines = ["import argparse", *(["import math"] if math else []), "import random", "from pathlib import Path", ""]
    lines += ["import keras", "import numpy as np", "from keras import ops"]
    lines += ["from PIL import Image"] if complete_augmentations(described.case) else []
    return "\n".join(lines) + "\n"


def _constants(described: Described) -> str:
    stage = described.stages[0]
    rule, schedule = stage.optimizer, stage.schedule
    facts: list[tuple[str, list[object]]] = [("MOMENTUM", [rule.momentum])]
    if rule.name != "sgd":
        facts = [("BETA_1, BETA_2, EPSILON", [*rule.betas, rule.eps])]
    if schedule.name == "step":
        facts.append(("DECAY_EPOCHS, DECAY_FACTOR", [schedule.every_epochs, schedule.factor]))
    facts += [("WARMUP_STEPS", [schedule.warmup_steps])] if schedule.warmup_steps else []
    if not described.whole_backbone_frozen or stage.norm == "batch":
        facts.append(("BN_MOMENTUM", [round(1 - stage.bn_momentum, 12)]))
    if _frozen_blocks(described):
        facts.append(("LAST_FROZEN", [_last_layer(_frozen_blocks(described))]))
    return constants(described, *facts)


def _frozen_blocks(described: Described) -> int:
    frozen = described.stages[0].frozen
    return frozen if isinstance(frozen, int) else 0


def _last_layer(blocks: int) -> str:
    """Return the name of the last layer with variables in the first blocks of the network."""
    return [row.variable.partition("/")[0] for row in WEIGHT_MAP if row.block < blocks][-1]


def _images(described: Described) -> str:
    changes = "".join(_CHANGES[one.name].format(**_numbers(one)) for one in complete_augmentations(described.case))
    changes = textwrap.indent(changes, " " * 12)
    flip = ", ".join(one.name for one in complete_augmentations(described.case)) == "flip"
    start = "        if self.training and" if flip else "        if self.training:\n"
    if flip:  # the only change: one condition
        changes = changes.replace("            if", "", 1).replace("                image", "            image", 1)
    return Template(_FOLDER).substitute(
        change=f"{start}{changes}" if changes else "",
        crop=_CROP if side(described.case) != described.case.image_size else "",
    )


def _numbers(augmentation: Augmentation) -> Mapping[str, str]:
    return {name: f"{value:.6g}" for name, value in augmentation.parameters.items()}


_CHANGES = {
    "random-resized-crop": """\
w = h = RESIZE + 1
while max(w, h) > RESIZE:
    area, ratio = random.uniform({scale}, 1), {ratio} ** random.uniform(-1, 1)
    w, h = (round(RESIZE * (area * r) ** 0.5) for r in (ratio, 1 / ratio))
x, y = random.randint(0, RESIZE - w), random.randint(0, RESIZE - h)
box = (x, y, x + w, y + h)
image = image.resize([IMAGE_SIZE] * 2, Image.Resampling.BILINEAR, box)
""",
    "flip": """\
if random.random() < {probability}:
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
""",
    "rotation": """\
angle = random.uniform(-{degrees}, {degrees})
image = image.rotate(angle, Image.Resampling.BILINEAR)
""",
    "shear": """\
slope = math.tan(math.radians(random.uniform(-{degrees}, {degrees})))
matrix = (1, slope, -slope * image.height / 2, 0, 1, 0)
kind, filter_ = Image.Transform.AFFINE, Image.Resampling.BILINEAR
image = image.transform(image.size, kind, matrix, filter_)
""",
}
"""The code of each augmentation of a PIL image."""

_CROP = """\
        margin, size = (image.width - IMAGE_SIZE) // 2, IMAGE_SIZE
        image = image.crop((margin, margin, margin + size, margin + size))
"""
_FOLDER = """
class ImageFolder(keras.utils.PyDataset):
    \"\"\"Batches of images [n, h, w, 3] and labels [n]; each class is a folder.\"\"\"

    def __init__(self, folder, batch_size, training):
        super().__init__()
        self.files = sorted(folder.glob("*/*"))
        self.classes = sorted({file.parent.name for file in self.files})
        self.batch_size, self.training = batch_size, training
        self.on_epoch_end()

    def __len__(self):
        rounded = 0 if self.training else self.batch_size - 1  # an incomplete batch
        return (len(self.files) + rounded) // self.batch_size

    def __getitem__(self, index):
        files = self.files[index * self.batch_size :][: self.batch_size]
        labels = [self.classes.index(file.parent.name) for file in files]
        return np.stack([self.load(file) for file in files]), np.array(labels)

    def on_epoch_end(self):
        if self.training:
            random.shuffle(self.files)

    def load(self, file):
        image = keras.utils.load_img(file, "rgb", (RESIZE, RESIZE), "bilinear", True)
$change$crop        return ((np.asarray(image) / 255 - MEAN) / STD).astype("float32")
"""


def _model(described: Described) -> str:
    case = described.case
    width = case.model.removeprefix("mobilenet-v2").removeprefix("-") or "1.0"
    built = ["input_tensor=inputs", f"alpha={width}", "include_top=False", "weights=None", 'pooling="avg"']
    about, start = "pretrained network with a new classifier", "    backbone.load_weights(weights)\n"
    if not described.weights:
        about, start = "network with random weights, drawn as torchvision does", _DRAWN
    moving = not described.whole_backbone_frozen or described.stages[0].norm == "batch"
    head = _UNIFORM if case.scenario.head_init == "default" else _GLOROT
    return (
        f"def build_model({', '.join(['classes', *(['weights'] if described.weights else [])])}):\n"
        f'    """Return the {about}."""\n    inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3))\n'
        f"{call(4, 'backbone = keras.applications.MobileNetV2(', built, ')')}"
        f"{_MOMENTUM if moving else ''}{start}{head}    return keras.Model(inputs, head(backbone.output))\n"
    )


_MOMENTUM = """\
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = BN_MOMENTUM
"""
_DRAWN = """\
    for layer in backbone.layers:
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        if depthwise or isinstance(layer, keras.layers.Conv2D):
            shape = layer.kernel.shape
            fan_out = shape[0] * shape[1] * shape[2 if depthwise else 3]
            noise = keras.random.normal(shape, stddev=(2 / fan_out) ** 0.5)
            layer.kernel.assign(noise)
"""
_UNIFORM = """\
    bound = backbone.output.shape[-1] ** -0.5
    draws = [keras.initializers.RandomUniform(-bound, bound) for _ in range(2)]
    head = keras.layers.Dense(classes, None, True, *draws, name="head")
"""
_GLOROT = """\
    head = keras.layers.Dense(classes, name="head")  # Glorot uniform, bias 0
"""


def _rule(described: Described) -> str:
    rule, varies = described.stages[0].optimizer, described.varies("weight_decay")
    decay = "self.decay" if varies else "WEIGHT_DECAY"
    gradient = "ops.cast(gradient, variable.dtype)"
    if described.decays and rule.name != "adamw":
        gradient += f" + {decay} * variable"
    decoupled = described.decays and rule.name == "adamw"
    return Template(_SGD if rule.name == "sgd" else _ADAM).substitute(
        gradient=gradient,
        decoupled=f"        self.assign_sub(variable, learning_rate * {decay} * variable)\n" if decoupled else "",
        start=_DECAYING if varies else "",
    )


_DECAYING = """\
    def __init__(self, *arguments, decay):
        super().__init__(*arguments)
        self.decay = decay

"""
_SGD = """
class TorchSGD(keras.optimizers.SGD):
    \"\"\"SGD as in torch: with decay in the gradient and no learning rate in the velocity.\"\"\"

$start    def update_step(self, gradient, variable, learning_rate):
        velocity = self.momentums[self._get_variable_index(variable)]
        gradient = $gradient
        self.assign(velocity, MOMENTUM * velocity + gradient)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * velocity)
"""
_ADAM = """
class TorchAdam(keras.optimizers.Adam):
    \"\"\"Adam as in torch: epsilon is added after the square root is corrected.\"\"\"

$start    def update_step(self, gradient, variable, learning_rate):
        step = ops.cast(self.iterations + 1, variable.dtype)
        mean = self._momentums[self._get_variable_index(variable)]
        square = self._velocities[self._get_variable_index(variable)]
        gradient = $gradient
$decoupled        self.assign(mean, BETA_1 * mean + (1 - BETA_1) * gradient)
        self.assign(square, BETA_2 * square + (1 - BETA_2) * ops.square(gradient))
        root = ops.sqrt(square / (1 - ops.power(BETA_2, step)))
        rate = ops.cast(learning_rate, variable.dtype) / (1 - ops.power(BETA_1, step))
        self.assign_sub(variable, rate * mean / (root + EPSILON))
"""


def _schedule(described: Described) -> str:
    schedule = described.stages[0].schedule
    if schedule.name != "cosine":
        return ""
    warm = schedule.warmup_steps > 0
    start, about = ("WARMUP_STEPS", "A linear warm-up, then half") if warm else ("0", "Half")
    last = "        return self.rate * cosine\n"
    if warm:
        last = "        factor = ops.where(step < WARMUP_STEPS, (step + 1) / WARMUP_STEPS, cosine)\n"
        last += "        return self.rate * factor\n"
    return f"""
class Cosine(keras.optimizers.schedules.LearningRateSchedule):
    \"\"\"{about} a cosine to zero.\"\"\"

    def __init__(self, rate, steps):
        self.rate, self.steps = rate, steps

    def __call__(self, step):
        step = ops.cast(step, keras.config.floatx())
        progress = (step - {start}) / max(1, self.steps - {start})
        cosine = 0.5 * (1 + ops.cos(math.pi * progress))
{last}"""


def _optimizer(described: Described) -> str:
    stage, own = described.stages[0], described.arguments(*described.rates)
    kind, settings = (
        ("TorchSGD", ["MOMENTUM"]) if stage.optimizer.name == "sgd" else ("TorchAdam", ["BETA_1", "BETA_2"])
    )
    settings += ["decay=weight_decay"] if described.varies("weight_decay") else []
    names = ["head_lr"] if described.whole_backbone_frozen else ["head_lr", "backbone_lr"]
    rates, steps, body = [described.name(name) for name in names], [], ""
    if stage.schedule.name == "cosine":
        rates, steps = [f"Cosine({rate}, steps)" for rate in rates], ["steps"]
    elif stage.schedule.name == "step":
        rates, steps = [f"decayed({rate})" for rate in rates], ["steps_per_epoch"]
        body = _DECAYED
    about = "Return an optimizer with a learning rate for each part of the network."
    if described.whole_backbone_frozen:
        about = "Return the optimizer of the classifier."
        body += call(4, f"return {kind}(", [rates[0], *settings], ")")
    else:
        for part, rate in zip(("head", "backbone"), rates, strict=True):
            body += call(4, f"{part} = {kind}(", [rate, *settings], ")")
        body += _PARTS
    arguments = [*steps, *(f"{field}{DEFAULTS.get(field, '')}" for field in own)]
    return f'{call(0, "def make_optimizer(", arguments, "):")}    """{about}"""\n{body}'


_DECAYED = """\
    schedules, steps = keras.optimizers.schedules, DECAY_EPOCHS * steps_per_epoch

    def decayed(rate):
        return schedules.ExponentialDecay(rate, steps, DECAY_FACTOR, staircase=True)

"""
_PARTS = """\
    return keras.optimizers.MultiOptimizer(
        lambda variable: head if variable.path.startswith("head/") else backbone
    )
"""


def _train(described: Described) -> str:
    epochs, schedule = described.name("epochs"), described.stages[0].schedule.name
    steps = {"cosine": [f"{epochs} * len(images)"], "step": ["len(images)"], "constant": []}[schedule]
    rates = ["**rates"] if described.arguments(*described.rates) else []
    about, body = "Compile and train for all epochs.", _freezing(described)
    body += call(4, "optimizer = make_optimizer(", [*steps, *rates], ")")
    body += "    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)\n"
    body += '    model.compile(optimizer, loss, metrics=["accuracy"])\n'
    fit = ["images", f"epochs={epochs}", "validation_data=val", "shuffle=False"]
    if described.keeps_best:
        about = "Compile and train for all epochs; return to the best by validation accuracy."
        facts = ['"val_accuracy"', f"patience={epochs}", 'mode="max"', "restore_best_weights=True"]
        body += call(4, "best = keras.callbacks.EarlyStopping(", facts, ")")
        chosen = "[best] if keep_best else []" if described.varies("keep_best") else "[best]"
        body += f"    callbacks = {chosen}\n"
        fit.append("callbacks=callbacks")
    defaults = {"frozen": "=False", "keep_best": "=False"}
    own = [f"{field}{defaults.get(field, '')}" for field in described.arguments("epochs", "frozen", "keep_best")]
    head = call(0, "def train(", ["model", "images", "val", *own, *rates], "):")
    return f'{head}    """{about}"""\n{body}{call(4, "model.fit(", fit, ")")}'


def _freezing(described: Described) -> str:
    stage = described.stages[0]
    before, layers = "", "model.layers[:-1]"
    if _frozen_blocks(described):
        before = "    names = [layer.name for layer in model.layers]\n"
        layers = "model.layers[: names.index(LAST_FROZEN) + 1]"
    if described.freezes and stage.norm == "batch":
        return before + _LIVE.format(layers=layers)
    if not described.freezes:
        return ""
    value = "not frozen" if described.varies("frozen") else "False"
    comment = "  # batch norm then uses its moving averages"
    return f"{before}    for layer in {layers}:\n        layer.trainable = {value}{comment}\n"


_LIVE = """\
    for layer in {layers}:  # fixed weights, moving averages
        layer.trainable = isinstance(layer, keras.layers.BatchNormalization)
        if layer.trainable:
            layer.gamma.trainable = layer.beta.trainable = False
"""


def _main(described: Described) -> str:
    weights = ["options.weights"] if described.weights else []
    size_of_evaluation, training = described.evaluation_size, ""
    for size, arguments in described.differences(lambda part: part == "backbone"):
        training += f'    images = ImageFolder(options.data / "train", {size}, training=True)\n'
        training += call(4, "train(", ["model", "images", "val", *arguments], ")")
    return f"""
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
{described.weights_option}    parser.add_argument("--out", type=Path, default="model.keras")
    parser.add_argument("--seed", type=int, default={described.case.seed})
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    val = ImageFolder(options.data / "val", {size_of_evaluation}, training=False)
    model = build_model({", ".join(["len(val.classes)", *weights])})
{training}    test = options.data / ("test" if (options.data / "test").is_dir() else "val")
    _, accuracy = model.evaluate(ImageFolder(test, {size_of_evaluation}, training=False))
    print(f"{{test.name}} accuracy {{accuracy:.4f}}, classes {{val.classes}}")
    keras.Model(model.input, model.output).save(options.out)  # without the optimizer
"""
