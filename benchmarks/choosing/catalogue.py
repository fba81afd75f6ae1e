"""The names there are: backends, their engines and models, scenarios and datasets, a user's plugins included.

Naming a model imports no framework. Plugins run in a worker, which answers with names.
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
"""What is run where no model is named; each backend takes those it has."""


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """Names by kind. `datasets` maps a plugin's dataset to the plugin's path; `plugins` are paths for workers."""

    backends: dict[str, BackendFacts]
    scenarios: dict[str, Scenario] = {}
    datasets: dict[str, str] = {}
    plugins: tuple[str, ...] = ()

    def offering(self, model: str) -> list[str]:
        """Backends that have a model, PyTorch first."""
        return [name for name, facts in self.backends.items() if model in facts.models]

    def publisher(self, model: str, name: str) -> tuple[str, Published] | None:
        """The first backend that knows published weights of a model under a name, and where they are."""
        for backend in self.offering(model):
            if published := self.backends[backend].models[model].published.get(name):
                return backend, published
        return None

    def published_names(self) -> tuple[str, ...]:
        """Names under which somebody publishes weights of a model."""
        models = [model for facts in self.backends.values() for model in facts.models.values()]
        return tuple(dict.fromkeys(name for model in models for name in model.published))

    def default_models(self, backend: str) -> tuple[str, ...]:
        """Models of a backend that are run where none is named."""
        models = self.backends[backend].models
        return tuple(m for m in DEFAULT_MODELS if m in models) or tuple(models)

    def engine(self, backend: str) -> str | None:
        """A backend's default engine."""
        return next(iter(self.backends[backend].engines), None)


def read_catalogue(plugin_paths: Sequence[str] = (), scenarios: Mapping[str, Scenario] | None = None) -> Catalogue:
    """Everything there is to choose from. Raises `Refused` if a plugin cannot be read."""
    known = {name: plugins.facts(plugins.find_backend(name)) for name in _backend_names()}
    paths = (*plugins.installed(), *(str(Path(p).resolve()) for p in plugin_paths))
    said = _ask(paths) if paths else plugins.Names()
    known.update(said.backends)
    for backend, models in said.models.items():
        if backend not in known:
            raise Refused(f"plugin {', '.join(paths)}: {unknown('backend', backend, known)}")
        known[backend] = replace(known[backend], models={**known[backend].models, **models})
    return Catalogue(
        backends=known,
        scenarios={**(scenarios or {}), **{scenario.name: check_scenario(scenario) for scenario in said.scenarios}},
        datasets=said.datasets,
        plugins=paths,
    )


def _ask(paths: Sequence[str]) -> plugins.Names:
    try:
        return ask(plugins.describe, {"paths": paths}, plugins.Names, timeout_s=120)
    except (Declined, Refused) as error:
        raise Refused(f"plugin {', '.join(paths)}: {error}") from error
    except msgspec.ValidationError as error:
        raise Refused(f"plugin {', '.join(paths)}: {error}; see harness.plugins for what a plugin holds") from error


def _backend_names() -> list[str]:
    found = sorted(p.parent.name for p in Path(backends.__path__[0]).glob("*/__init__.py"))
    return sorted(found, key=lambda name: name != "pytorch")
