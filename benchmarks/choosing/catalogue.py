"""The available backends, engines, models, scenarios and datasets, with those of the user's plugins.

Reading the catalogue imports no framework. Plugins run in a worker, which returns their names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

import backends
from benchmarks.choosing.scenarios import check_scenario
from harness import plugins
from harness.data.checkpoint import Published
from harness.errors import Declined, Refused, unknown
from harness.plugins import BackendFacts
from harness.process.ask import ask
from harness.spec import Scenario

DEFAULT_MODELS = ("resnet18", "efficientnet-b0", "mobilenet-v2-0.35", "tiny-cnn")
"""The models that run if the user names none; each backend takes those that it has."""


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """Names by kind. `datasets` maps a plugin's dataset to the plugin's path; workers load the paths in `plugins`."""

    backends: dict[str, BackendFacts]
    scenarios: dict[str, Scenario] = {}
    datasets: dict[str, str] = {}
    plugins: tuple[str, ...] = ()

    def offering(self, model: str) -> list[str]:
        """Return the backends that have a model, PyTorch first."""
        return [name for name, facts in self.backends.items() if model in facts.models]

    def publisher(self, model: str, name: str) -> tuple[str, Published] | None:
        """Return the first backend that has published weights of this name for a model, and their location."""
        for backend in self.offering(model):
            if published := self.backends[backend].models[model].published.get(name):
                return backend, published
        return None

    def published_names(self) -> tuple[str, ...]:
        """Return the names of all published weights."""
        models = [model for facts in self.backends.values() for model in facts.models.values()]
        return tuple(dict.fromkeys(name for model in models for name in model.published))

    def default_models(self, backend: str) -> tuple[str, ...]:
        """Return the models of a backend that run if the user names none."""
        models = self.backends[backend].models
        return tuple(m for m in DEFAULT_MODELS if m in models) or tuple(models)

    def engine(self, backend: str) -> str | None:
        """Return the default engine of a backend."""
        return next(iter(self.backends[backend].engines), None)


def read_catalogue(plugin_paths: Sequence[str] = (), scenarios: Mapping[str, Scenario] | None = None) -> Catalogue:
    """Return everything that the user can choose. Raises `Refused` if a plugin cannot be read."""
    known = {name: plugins.facts(plugins.find_backend(name)) for name in _backend_names()}
    paths = (*plugins.installed(), *(str(Path(p).resolve()) for p in plugin_paths))
    found = _describe(paths) if paths else plugins.Names()
    known.update(found.backends)
    for backend, models in found.models.items():
        if backend not in known:
            raise Refused(f"plugin {', '.join(paths)}: {unknown('backend', backend, known)}")
        known[backend] = replace(known[backend], models={**known[backend].models, **models})
    return Catalogue(
        backends=known,
        scenarios={**(scenarios or {}), **{scenario.name: check_scenario(scenario) for scenario in found.scenarios}},
        datasets=found.datasets,
        plugins=paths,
    )


def _describe(paths: Sequence[str]) -> plugins.Names:
    try:
        return ask(plugins.describe, {"paths": paths}, plugins.Names, timeout_s=120)
    except (Declined, Refused) as error:
        raise Refused(f"plugin {', '.join(paths)}: {error}") from error
    except msgspec.ValidationError as error:
        raise Refused(f"plugin {', '.join(paths)}: {error}; harness.plugins lists what a plugin contains") from error


def _backend_names() -> list[str]:
    found = sorted(p.parent.name for p in Path(backends.__path__[0]).glob("*/__init__.py"))
    return sorted(found, key=lambda name: name != "pytorch")
