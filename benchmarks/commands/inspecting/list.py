"""`list`: print all names of a kind, each with one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from benchmarks.choosing.catalogue import Catalogue, read_catalogue
from benchmarks.choosing.options import GroupedCommand, shared
from benchmarks.choosing.scenarios import RECIPES, SCENARIOS
from benchmarks.choosing.suites import SUITES
from benchmarks.datasets.named import described
from benchmarks.running.terminal import aligned
from harness.data.augment import AUGMENTATIONS
from harness.spec import SETTINGS

Lines = Iterable[tuple[str, str]]


@click.command(cls=GroupedCommand)
@click.argument("kind", required=False, help="backends, models, scenarios, …; default: all")
@shared("plugin")
def command(kind: str | None, plugin: tuple[str, ...]) -> None:
    """List models, scenarios, datasets and other names."""
    if kind is not None and kind not in KINDS:
        raise click.UsageError(f"no kind {kind}; use one of {', '.join(KINDS)}")
    catalogue = read_catalogue(plugin)
    for name in [kind] if kind else KINDS:
        click.secho(name, bold=True)
        click.echo(aligned((f"  {item}", line) for item, line in KINDS[name](catalogue)))


def _backends(catalogue: Catalogue) -> Lines:
    for name, facts in catalogue.backends.items():
        engines = f"engines {', '.join(facts.engines)}; " if facts.engines else ""
        yield name, f"{engines}uses {', '.join(facts.packages)}"


def _models(catalogue: Catalogue) -> Lines:
    for model in dict.fromkeys(model for facts in catalogue.backends.values() for model in facts.models):
        yield model, ", ".join(catalogue.offering(model))


def _scenarios(catalogue: Catalogue) -> Lines:
    scenarios = [*(make(RECIPES["tutorial"]) for make in SCENARIOS.values()), *catalogue.scenarios.values()]
    return ((scenario.name, scenario.explanation) for scenario in scenarios)


KINDS: dict[str, Callable[[Catalogue], Lines]] = {
    "backends": _backends,
    "models": _models,
    "scenarios": _scenarios,
    "datasets": lambda catalogue: (described() | {n: f"from {path}" for n, path in catalogue.datasets.items()}).items(),
    "augmentations": lambda _: AUGMENTATIONS.items(),
    "settings": lambda _: ((str(one.option), one.text) for one in SETTINGS.values() if one.role == "setting"),
    "recipes": lambda _: ((recipe.name, recipe.explanation) for recipe in RECIPES.values()),
    "suites": lambda _: ((suite.name, suite.explanation) for suite in SUITES.values()),
}
