"""Selections: lists of settings, and the cases that follow as their product."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from benchmarks.choosing.catalogue import Catalogue
from benchmarks.choosing.scenarios import FIVE, RECIPES, check_scenario, find_scenario, with_files
from harness.data.augment import parse_augment
from harness.errors import Refused, each_once, unknown
from harness.process.machine import measuring_threads
from harness.spec import SETTINGS, Case, Scenario, Stage, key


def _help(description: str) -> msgspec.Meta:
    return msgspec.Meta(description=description)


Names = tuple[str, ...]
CHOSEN = [setting for setting in SETTINGS.values() if setting.role == "setting"]
"""The settings of a case that have an option."""


OTHERS = "all models"
"""The key of a value that is for no single model."""


class _Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[case]]` of a suite, or the options of the command line, which have the same names and meaning.

    Each setting of a case is a further field. Fields with several values are combined as a product. The default of a
    field that is None or empty depends on the data.
    """

    backend: Annotated[Names, _help("pytorch, keras3, reference; default: all with the model")] = ()
    engine: Annotated[Names, _help("engine of keras3: tensorflow (default), jax, torch")] = ()
    model: Annotated[Names, _help("see `list models`")] = ()
    scenario: Annotated[Names, _help("see `list scenarios`, or a TOML file; default: as in the default suite")] = FIVE
    data: Annotated[Names, _help("image folder, or a name of `list datasets`")] = ("embedded",)
    validation_split: Annotated[float | None, _help("share of training images to validate on, if no val folder")] = None
    validation_seed: Annotated[int, _help("seed that chooses these validation images")] = 0
    test_split: Annotated[float | None, _help("share of training images to test on, if no test folder")] = None
    splits: Annotated[str | None, _help("train=FOLDER,val=FOLDER,test=FOLDER; none: all folders are classes")] = None
    checkpoint: Annotated[Names, _help("file, imagenet, embedded, or MODEL=SOURCE; default: depends on the data")] = ()
    input_scaling: Annotated[
        Names, _help("of a bare file: imagenet, minus-one-to-one, zero-to-one, R,G,B/R,G,B, or MODEL=SCALING")
    ] = ()
    image_size: Annotated[tuple[int, ...], _help("side in pixels; default 224, embedded 64")] = ()
    augment: Annotated[Names, _help("such as random-resized-crop:scale=0.5,flip; see `list augmentations`")] = ()
    recipe: Annotated[str | None, _help("embedded or tutorial; default: depends on the data")] = None
    epochs: Annotated[int | None, _help("epochs of every stage")] = None
    lr: Annotated[float | None, _help("base learning rate of the recipe")] = None
    batch_size: Annotated[tuple[int, ...], _help("batch size of every stage")] = ()
    bn_momentum: Annotated[float | None, _help("weight of the new batch in batch-norm statistics (as in torch)")] = None
    bn_mode: Annotated[
        Literal["auto", "batch", "frozen"] | None,
        _help("batch norms that use batch statistics: those not frozen (auto), all (batch), none (frozen)"),
    ] = None
    select_epoch: Annotated[Literal["last", "best"] | None, _help("epoch whose weights a stage returns")] = None
    seeds: Annotated[int, _help("number of seeds: 0, 1, …")] = 1
    threads: Annotated[tuple[int, ...], _help("threads and cores of a worker; default: all cores but one")] = ()


def _with_settings() -> Any:
    fields: list[tuple[str, Any, Any]] = []
    for setting in CHOSEN:
        name, kind, default = str(setting.option), setting.type, setting.default
        if name not in _Selection.__struct_fields__:
            if setting.several:
                kind, default = GenericAlias(tuple, (kind, ...)), (default,)
            fields.append((name, kind, default))
    return msgspec.defstruct(
        "Selection", fields, bases=(_Selection,), module=__name__, frozen=True, kw_only=True, forbid_unknown_fields=True
    )


if TYPE_CHECKING:
    Selection = _Selection
else:
    Selection = _with_settings()


LEAST = {"epochs": 1, "batch_size": 1, "threads": 1, "seeds": 1, "validation_seed": 0, "limit": 1, "warmup_steps": 0,
         "workers": 0, "image_size": 8, "devices": 1}  # fmt: skip
"""The smallest valid value of a field."""


class Division(NamedTuple):
    """How an image folder is divided: options of `run` by the names that `datasets.named.prepare` gives them."""

    splits: str | None = None
    validation_split: float | None = None
    seed: int = 0
    test_split: float | None = None


WHOLE = Division()
"""No option that divides the data."""


class SelectedCase(NamedTuple):
    """One case of a selection, before its data and checkpoint are prepared: `case` has no digests yet.

    The other fields say how to read the data and the checkpoint.
    """

    case: Case
    checkpoint: str
    input_scaling: str | None
    division: Division


def expand(selection: Selection, catalogue: Catalogue) -> list[SelectedCase]:
    """Return the cases of a selection, in the order of its lists. Raises `Refused` for unknown names."""
    pairs = _pairs(selection, catalogue)
    _refuse_nonsense(selection)
    checkpoints = _by_model("--checkpoint", selection.checkpoint, catalogue)
    scalings = _by_model("--input-scaling", selection.input_scaling, catalogue)
    names, scenarios = with_files(selection.scenario, catalogue.scenarios)
    shares = selection.validation_split, selection.validation_seed, selection.test_split
    division = Division(selection.splits, *shares)
    cases = []
    batches: tuple[int | None, ...] = selection.batch_size or (None,)
    for data, (backend, engine, model), name, batch in itertools.product(selection.data, pairs, names, batches):
        embedded = data == "embedded"
        recipe_name = selection.recipe or ("embedded" if embedded else "tutorial")
        if recipe_name not in RECIPES:
            raise Refused(unknown("recipe", recipe_name, RECIPES))
        recipe = RECIPES[recipe_name]
        if (lr := selection.lr) is not None:
            recipe = replace(recipe, stage=replace(recipe.stage, head_lr=lr, backbone_lr=lr))
        scenario = _adjusted(find_scenario(name, recipe, scenarios), selection, batch)
        checkpoint = checkpoints.get(model, checkpoints.get(OTHERS, "embedded" if embedded else "imagenet"))
        scaling = scalings.get(model, scalings.get(OTHERS))
        for axes in _axes(selection, embedded):
            what: dict[str, Any] = {"backend": backend, "engine": engine, "model": model, "scenario": scenario}
            case = _as_default(Case(**what, dataset=data, dataset_sha256="", **axes))
            cases.append(SelectedCase(case, checkpoint, scaling, division))
    return cases


def _as_default(case: Case) -> Case:
    """Return the case without an optimizer rule that its other settings mean anyway, so that it has one digest."""
    same = replace(case, optimizer_rule="auto")
    return same if same.own_optimizer == case.own_optimizer else case


TOGETHER = 2
"""Number of cases that `run` opens at the same time."""


def in_turns(cases: Sequence[SelectedCase]) -> list[SelectedCase]:
    """Sort the cases: two seeds of one backend, then the same two of the next one, under the same load.

    Cases that are opened at the same time save most time if all are of one backend.
    """
    alike: dict[object, list[SelectedCase]] = {}
    for selected in cases:
        case = replace(selected.case, backend="", engine=None, seed=selected.case.seed // TOGETHER)
        alike.setdefault((key(case), *selected[1:]), []).append(selected)
    return [selected for group in alike.values() for selected in group]


def read_suite(path: Path) -> tuple[list[Selection], dict[str, Scenario]]:
    """Read a suite: a TOML file with `[[case]]` tables and optional `[[scenario]]` tables. Raises `Refused`."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        selections = msgspec.convert(content.pop("case", []), list[Selection])
        scenarios = msgspec.convert(content.pop("scenario", []), list[Scenario])
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: {error}") from error
    if content:
        raise Refused(f"{path}: {unknown('table', next(iter(content)), ('case', 'scenario'))}")
    if not selections:
        raise Refused(f"{path} has no [[case]] table; there is nothing to run")
    return selections, {scenario.name: check_scenario(scenario) for scenario in scenarios}


def _pairs(selection: Selection, catalogue: Catalogue) -> list[tuple[str, str | None, str]]:
    known = catalogue.backends
    for backend in selection.backend:
        if backend not in known:
            raise Refused(unknown("backend", backend, known))
    backends = selection.backend or tuple(name for name in known if name != "reference")
    offered = sorted({model for backend in backends for model in known[backend].models})
    for model in selection.model:
        if model not in offered:
            has = f"{' or '.join(selection.backend)} has " if selection.backend else ""
            raise Refused(f"{has}{unknown('model', model, offered)}")
    engines = sorted({engine for backend in backends for engine in known[backend].engines})
    for engine in selection.engine:
        if engine not in engines:
            raise Refused(unknown("engine", engine, engines))
    pairs: list[tuple[str, str | None, str]] = []
    for backend in backends:
        models = [m for m in selection.model or catalogue.default_models(backend) if m in known[backend].models]
        chosen = tuple(e for e in selection.engine if e in known[backend].engines) or (catalogue.engine(backend),)
        if not models and selection.backend:
            raise Refused(f"{backend} has none of the models {', '.join(selection.model)}")
        pairs.extend((backend, engine, model) for model in models for engine in chosen)
    return pairs


def _refuse_nonsense(selection: Selection) -> None:
    for field, low in LEAST.items():
        value = getattr(selection, field)
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None and one < low:
                raise Refused(f"--{field.replace('_', '-')} {one}: must be at least {low}")
    for field in ("validation_split", "test_split"):
        share = getattr(selection, field)
        if share is not None and not 0 < share < 1:
            raise Refused(f"--{field.replace('_', '-')} {share}: must be between 0 and 1")


def _by_model(option: str, texts: Sequence[str], catalogue: Catalogue) -> dict[str, str]:
    """Return the value of each model that has its own, and the value of all others.

    Raises `Refused` for an unknown model and for two values of one.
    """
    models = _models(catalogue)

    def read(text: str) -> tuple[str, str]:
        model, equals, value = text.partition("=")
        if equals and model in models:
            return model, value
        if equals and not Path(text).exists():
            raise Refused(f"{option} {text}: {unknown('model', model, models)}")
        return OTHERS, text

    return each_once(option, map(read, texts), "write MODEL=VALUE for each model")


def of_model(texts: Sequence[str], model: str, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the values of `--checkpoint` or `--input-scaling` without those that are for other models."""
    others = set(_models(catalogue)) - {model}
    return tuple(text for text in texts if text.partition("=")[0] not in others)


def _models(catalogue: Catalogue) -> dict[str, None]:
    return dict.fromkeys(model for facts in catalogue.backends.values() for model in facts.models)


def _adjusted(scenario: Scenario, selection: Selection, batch_size: int | None) -> Scenario:
    wanted: dict[str, Any] = {"epochs": selection.epochs, "norm": selection.bn_mode, "keep": selection.select_epoch}
    wanted |= {"bn_momentum": selection.bn_momentum, "batch_size": batch_size}
    changes = {field: value for field, value in wanted.items() if value is not None}
    stages = [msgspec.convert({**msgspec.to_builtins(stage), **changes}, Stage) for stage in scenario.stages]
    return check_scenario(replace(scenario, stages=tuple(stages)))


def _axes(selection: Selection, embedded: bool) -> Iterator[dict[str, Any]]:
    chosen = {setting.name: getattr(selection, str(setting.option)) for setting in CHOSEN}
    axes = {name: value if isinstance(value, tuple) else (value,) for name, value in chosen.items()}
    augment = selection.augment or (("flip",) if embedded else ("random-resized-crop,flip",))
    axes["image_size"] = selection.image_size or ((64,) if embedded else (224,))
    axes["augment"] = tuple(map(parse_augment, augment))
    axes["threads"] = selection.threads or (max(1, measuring_threads() // max(axes["devices"])),)
    axes["seed"] = tuple(range(selection.seeds))
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))
