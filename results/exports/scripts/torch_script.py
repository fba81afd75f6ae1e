"""The script of a PyTorch case, for torch and torchvision (and efficientnet_pytorch where the model is its own)."""

from __future__ import annotations

from string import Template
from typing import NamedTuple

from harness.errors import Declined
from harness.spec import Augmentation, Frozen
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


class TorchModel(NamedTuple):
    """How a script builds a network: the expression, its classifier, and its modules in the order of the blocks."""

    build: str
    classifier: str
    features: str
    blocks: tuple[tuple[str, ...], ...]
    backbone: tuple[str, ...]
    package: str = "torchvision"

    def frozen(self, part: Frozen) -> list[str]:
        """Return the paths of the modules of a frozen part."""
        if part == "backbone":
            return list(self.backbone)
        return [] if part == "none" else [name for block in self.blocks[: int(part)] for name in block]


def _resnet(name: str) -> TorchModel:
    layers = ("layer1", "layer2", "layer3", "layer4")
    blocks = (("conv1", "bn1"), *((layer,) for layer in layers))
    return TorchModel(f"torchvision.models.{name}()", "fc", "fc.in_features", blocks, ("conv1", "bn1", *layers))


def _mobilenet(width: str) -> TorchModel:
    blocks = tuple((f"features.{block}",) for block in range(19))
    build = f"torchvision.models.mobilenet_v2(width_mult={width})"
    return TorchModel(build, "classifier", "last_channel", blocks, ("features",))


def _efficientnet(name: str, blocks: int) -> TorchModel:
    stem, last = ("_conv_stem", "_bn0"), ("_conv_head", "_bn1")
    middle = tuple((f"_blocks.{block}",) for block in range(blocks))
    build = f'EfficientNet.from_name("{name}", image_size=IMAGE_SIZE)'
    whole = (*stem, "_blocks", *last)
    return TorchModel(build, "_fc", "_fc.in_features", (stem, *middle, last), whole, "efficientnet_pytorch")


MODELS = {
    "resnet18": _resnet("resnet18"),
    "resnet34": _resnet("resnet34"),
    "efficientnet-b0": _efficientnet("efficientnet-b0", 16),
    "efficientnet-b3": _efficientnet("efficientnet-b3", 26),
    "mobilenet-v2": _mobilenet("1.0"),
    **{f"mobilenet-v2-{width}": _mobilenet(width) for width in ("0.35", "0.5", "0.75", "1.3", "1.4")},
}
"""The models that a script can build, by name."""
ENDING = ".pth"
"""Of the file of weights."""


def script(described: Described) -> str:
    """Return the script. Raise `Declined` for a model that it cannot build."""
    case = described.case
    if case.model not in MODELS:
        raise Declined(f"--to script: no PyTorch script for {case.model}, only for {', '.join(MODELS)}")
    if case.model.startswith("mobilenet") and case.image_size % 32:
        # Only then is the input of every strided convolution of an even size, which decides its padding.
        raise Declined(f"--to script: {case.model} needs an image size that is a multiple of 32")
    model = MODELS[case.model]
    weights = f" --weights {described.weights}" if described.weights else ""
    needs = "torch and torchvision"
    needs = needs if model.package == "torchvision" else f"torch, torchvision and {model.package}"
    start = (
        docstring(described, f"python {described.file} --data FOLDER{weights}", needs),
        _imports(described, model),
        _constants(described, model),
    )
    return joined(
        "\n".join(start),
        _loader(described),
        _model(described, model),
        _optimizer(described, model),
        _schedule(described),
        _epoch(described),
        _EVALUATE,
        _train(described),
        _main(described, model),
        'if __name__ == "__main__":\n    main()',
    )


def _imports(described: Described, model: TorchModel) -> str:
    ours = model.package == "torchvision"
    plain = ["argparse", *(["copy"] if described.keeps_best else [])]
    plain += ["math"] if described.stages[0].schedule.name == "cosine" else []
    lines = [*(f"import {name}" for name in plain), "from pathlib import Path", ""]
    lines += ["import torch", "import torchvision" if ours else "from efficientnet_pytorch import EfficientNet"]
    lines += ["from torch import nn", "from torch.utils.data import DataLoader"]
    lines += ["from torchvision.datasets import ImageFolder", "from torchvision.transforms import v2"]
    return "\n".join(lines) + "\n"


def _constants(described: Described, model: TorchModel) -> str:
    stage = described.stages[0]
    rule, schedule = stage.optimizer, stage.schedule
    facts: list[tuple[str, list[object]]] = [("MOMENTUM", [rule.momentum])]
    if rule.name != "sgd":
        facts = [("BETAS, EPSILON", [rule.betas, rule.eps])]
    if schedule.name == "step":
        facts.append(("DECAY_EPOCHS, DECAY_FACTOR", [schedule.every_epochs, schedule.factor]))
    facts += [("WARMUP_STEPS", [schedule.warmup_steps])] if schedule.warmup_steps else []
    facts.append(("BN_MOMENTUM", [stage.bn_momentum]))
    facts += [("LABEL_SMOOTHING", [stage.label_smoothing])] if stage.label_smoothing else []
    frozen = described.freezes and not described.varies("frozen")
    facts += [("FROZEN", [model.frozen(stage.frozen)])] if frozen else []
    return constants(described, *facts)


def _loader(described: Described) -> str:
    case = described.case
    augment = [_transform(one) for one in complete_augmentations(case)]
    changes = f"    if training:\n{''.join(call(8, 'steps += [', [one], ']') for one in augment)}" if augment else ""
    crop = "v2.CenterCrop(IMAGE_SIZE), " if side(case) != case.image_size else ""
    return f"""
def make_loader(folder, batch_size, training):
    \"\"\"Return batches of images [n, 3, h, w] and labels [n].\"\"\"
    steps = [v2.Resize(RESIZE), v2.CenterCrop(RESIZE)]
{changes}    steps += [{crop}v2.ToImage()]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    images = ImageFolder(folder, v2.Compose(steps))
    return DataLoader(images, batch_size, shuffle=training, drop_last=training)
"""


def _transform(augmentation: Augmentation) -> str:
    p = {name: f"{value:.6g}" for name, value in augmentation.parameters.items()}
    bilinear = "v2.InterpolationMode.BILINEAR"
    texts = {
        "random-resized-crop": "v2.RandomResizedCrop(IMAGE_SIZE, ({scale}, 1), (1 / {ratio}, {ratio}))",
        "flip": "v2.RandomHorizontalFlip({probability})",
        "rotation": f"v2.RandomRotation({{degrees}}, {bilinear})",
        "shear": f"v2.RandomAffine(0, shear={{degrees}}, interpolation={bilinear})",
    }
    return texts[augmentation.name].format(**p)


def _model(described: Described, model: TorchModel) -> str:
    case, pieces = described.case, [_BUILT]
    if case.model.startswith("efficientnet"):
        pieces.append("    model._dropout = nn.Identity()\n    model.set_swish(memory_efficient=False)\n")
    if case.model.startswith("efficientnet") and not case.dropout:
        pieces.append("    model._global_params = model._global_params._replace(drop_connect_rate=0.0)\n")
    pieces.append(_PADDED if case.model.startswith("mobilenet") else _MOMENTUM)
    pieces.append("    model.$classifier = nn.Linear(model.$features, classes)\n")
    if case.scenario.head_init == "xavier":
        pieces.append("    nn.init.xavier_uniform_(model.$classifier.weight)\n")
        pieces.append("    nn.init.zeros_(model.$classifier.bias)\n")
    pieces.append(_LOADED if described.weights else "    return model\n")
    return Template("".join(pieces)).substitute(
        build=model.build,
        classifier=model.classifier,
        features=model.features,
        weights=", weights" if described.weights else "",
        about="pretrained network with a new classifier" if described.weights else "network with random weights",
    )


_BUILT = """
def build_model(classes$weights):
    \"\"\"Return the $about.\"\"\"
    model = $build
"""
_MOMENTUM = """\
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = BN_MOMENTUM
"""
_PADDED = """\
    pad = nn.ZeroPad2d((0, 1, 0, 1))  # as keras.applications, whose epsilon is 1e-3
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum, module.eps = BN_MOMENTUM, 1e-3
        elif isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.padding = (0, 0)
            module.register_forward_pre_hook(lambda _, inputs: pad(*inputs))
"""
_LOADED = """\
    state = torch.load(weights, map_location="cpu", weights_only=True)
    model.load_state_dict(state | model.$classifier.state_dict(prefix="$classifier."))
    return model
"""


def _optimizer(described: Described, model: TorchModel) -> str:
    rule, frozen = described.stages[0].optimizer, described.name("frozen")
    arguments = described.arguments("frozen", *described.rates)
    own = [field if field == "frozen" else f"{field}{DEFAULTS.get(field, '')}" for field in arguments]
    about = "Return an optimizer with a learning rate for each part of the network."
    body = "    model.requires_grad_(True)\n" if described.varies("frozen") else ""
    if described.freezes:
        about = "Freeze, and return an optimizer with a learning rate for each part."
        body += f"    for name in {frozen}:\n        model.get_submodule(name).requires_grad_(False)\n"
    body += f"    head = list(model.{model.classifier}.parameters())\n"
    groups = [f'{{"params": head, "lr": {described.name("head_lr")}}}']
    if described.whole_backbone_frozen:
        about = "Freeze the backbone, and return the optimizer of the classifier."
    else:
        body += _BACKBONE[len(model.backbone) == 1].format(classifier=model.classifier, backbone=model.backbone[0])
        groups = [f'{{"params": backbone, "lr": {described.name("backbone_lr")}}}', *groups]
    constants_of = ["momentum=MOMENTUM"] if rule.name == "sgd" else ["betas=BETAS", "eps=EPSILON"]
    if described.decays or rule.name == "adamw":
        constants_of.append(f"weight_decay={described.name('weight_decay') if described.decays else '0.0'}")
    kind = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}[rule.name]
    head = call(0, "def make_optimizer(", ["model", *own], "):")
    return (
        f'{head}    """{about}"""\n{body}{call(4, "groups = [", groups, "]")}'
        f"{call(4, f'return torch.optim.{kind}(', ['groups', *constants_of], ')')}"
    )


_BACKBONE = {
    True: "    backbone = [p for p in model.{backbone}.parameters() if p.requires_grad]\n",
    False: "    named = model.named_parameters()\n"
    '    backbone = [p for n, p in named if p.requires_grad and not n.startswith("{classifier}.")]\n',
}
"""The trainable parameters of the backbone, by whether it is one module."""


def _plain_steps(described: Described) -> bool:
    schedule = described.stages[0].schedule
    return schedule.name == "step" and not schedule.warmup_steps


_RATES = {
    "constant": ("constant rates", "    return 1.0\n", ()),
    "step": (
        "a factor every few epochs",
        "    return DECAY_FACTOR ** (step // (DECAY_EPOCHS * steps_per_epoch))\n",
        ("steps_per_epoch",),
    ),
    "cosine": (
        "half a cosine to zero",
        "    progress = (step - {warmup}) / max(1, steps - {warmup})\n"
        "    return 0.5 * (1 + math.cos(math.pi * progress))\n",
        ("steps",),
    ),
}
"""Description, code and arguments of the factor on the learning rates, by the name of the schedule."""


def _schedule(described: Described) -> str:
    if not described.scheduled or _plain_steps(described):
        return ""
    schedule = described.stages[0].schedule
    about, body, arguments = _RATES[schedule.name]
    warm = schedule.warmup_steps > 0
    about = f"a linear warm-up, then {about}" if warm else about
    first = "    if step < WARMUP_STEPS:\n        return (step + 1) / WARMUP_STEPS\n" if warm else ""
    if not warm:
        body = body.replace("(step - {warmup}) / max(1, steps - {warmup})", "step / steps")
    return (
        f"{call(0, 'def rate_factor(', ['step', *arguments], '):')}"
        f'    """Return the factor on the learning rates: {about}."""\n{first}{body.format(warmup="WARMUP_STEPS")}'
    )


def _epoch(described: Described) -> str:
    smoothing = ["label_smoothing=LABEL_SMOOTHING"] if described.stages[0].label_smoothing else []
    loss = call(8, "loss = nn.functional.cross_entropy(", ["logits", "labels.to(device)", *smoothing], ")")
    step = "        scheduler.step()\n" if described.scheduled else ""
    norm = described.stages[0].norm
    modes = ""
    if described.freezes:
        modes += "    # Batch norm and dropout of the frozen part stay in inference mode.\n"
        modes += f"    for name in {described.name('frozen')}:\n        model.get_submodule(name).eval()\n"
    if norm != "auto":
        statistics = "the batch everywhere" if norm == "batch" else "its running statistics"
        modes += f"    for module in model.modules():  # batch norm uses {statistics}\n"
        modes += f"        if isinstance(module, nn.BatchNorm2d):\n            module.train({norm == 'batch'})\n"
    arguments = ["model", "loader", "optimizer", *(["scheduler"] if step else [])]
    arguments += described.arguments("frozen") if described.freezes else []
    return (
        f"{call(0, 'def train_one_epoch(', arguments, '):')}"
        '    """Train on every batch once; return the loss of each."""\n'
        f"    device = next(model.parameters()).device\n    model.train()\n{modes}    losses = []\n"
        "    for images, labels in loader:\n        logits = model(images.to(device))\n"
        f"{loss}        optimizer.zero_grad()\n        loss.backward()\n        optimizer.step()\n"
        f"{step}        losses.append(loss.detach())\n"
        "    return [loss.item() for loss in losses]\n"
    )


_EVALUATE = """
@torch.inference_mode()
def evaluate(model, loader):
    \"\"\"Return the share of images that are classified correctly.\"\"\"
    device = next(model.parameters()).device
    model.eval()
    hits = [model(x.to(device)).argmax(1) == y.to(device) for x, y in loader]
    return torch.cat(hits).double().mean().item()
"""


def _train(described: Described) -> str:
    epochs, best = described.name("epochs"), described.keeps_best
    frozen, rates = described.arguments("frozen"), ["**rates"] if described.arguments(*described.rates) else []
    body = call(4, "optimizer = make_optimizer(", ["model", *frozen, *rates], ")")
    if _plain_steps(described):
        decay = ["optimizer", "DECAY_EPOCHS * len(loader)", "DECAY_FACTOR"]
        body += call(4, "scheduler = torch.optim.lr_scheduler.StepLR(", decay, ")")
    elif described.scheduled:
        _, _, arguments = _RATES[described.stages[0].schedule.name]
        known = {"steps": f"{epochs} * len(loader)", "steps_per_epoch": "len(loader)"}
        body += "".join(f"    {name} = {known[name]}\n" for name in arguments)
        factor = f"lambda step: rate_factor({', '.join(['step', *arguments])})" if arguments else "rate_factor"
        body += call(4, "scheduler = torch.optim.lr_scheduler.LambdaLR(", ["optimizer", factor], ")")
    body += "    best_accuracy, best_state = -1.0, None\n" if best else ""
    body += f"    for epoch in range(1, {epochs} + 1):\n"
    into = ["model", "loader", "optimizer", *(["scheduler"] if described.scheduled else [])]
    body += call(8, "losses = train_one_epoch(", [*into, *frozen], ")")
    body += "        loss, accuracy = sum(losses) / len(losses), evaluate(model, val)\n"
    body += '        print(f"epoch {epoch}: loss {loss:.4f}, validation accuracy {accuracy:.4f}")\n'
    about = "Train for all epochs."
    if best:
        about = "Train for all epochs and return to the best one by validation accuracy."
        body += "        if accuracy > best_accuracy:\n            best_accuracy = accuracy\n"
        body += "            best_state = copy.deepcopy(model.state_dict())\n"
        last = "    if keep_best:\n        model.load_state_dict(best_state)\n"
        body += last if described.varies("keep_best") else "    model.load_state_dict(best_state)\n"
    own = [f"{field}{DEFAULTS.get(field, '')}" for field in described.arguments("epochs", "frozen", "keep_best")]
    head = call(0, "def train(", ["model", "loader", "val", *own, *rates], "):")
    return f'{head}    """{about}"""\n{body}'


def _main(described: Described, model: TorchModel) -> str:
    weights = ["options.weights"] if described.weights else []
    size_of_evaluation, training = described.evaluation_size, ""
    for size, arguments in described.differences(model.frozen):
        training += f'    loader = make_loader(options.data / "train", {size}, training=True)\n'
        training += call(4, "train(", ["model", "loader", "val", *arguments], ")")
    return f"""
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
{described.weights_option}    parser.add_argument("--out", type=Path, default="model.pth")
    parser.add_argument("--seed", type=int, default={described.case.seed})
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    val = make_loader(options.data / "val", {size_of_evaluation}, training=False)
    classes = val.dataset.classes
    model = build_model({", ".join(["len(classes)", *weights])}).to(device)
{training}    test = options.data / ("test" if (options.data / "test").is_dir() else "val")
    accuracy = evaluate(model, make_loader(test, {size_of_evaluation}, training=False))
    print(f"{{test.name}} accuracy {{accuracy:.4f}}")
    torch.save({{"classes": classes, "state_dict": model.state_dict()}}, options.out)
"""
