"""A user's own backends, models, scenarios and datasets: a Python file (`--plugin`), or an entry point.

A plugin is a module with any of

    BACKENDS = {"name": module}             a backend of one's own, with the names of `contract.Backend`
    MODELS = {"pytorch": [Model(...)]}      offered by that backend beside its own
    SCENARIOS = [Scenario(...)]
    DATASETS = {"name": function}           function() returns (classes, {split: (uint8 NHWC images, labels)})

Plugins run in workers only; the parent learns their names through `describe`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import msgspec

from harness.contract import Backend, Model
from harness.data.checkpoint import Published
from harness.errors import Refused
from harness.process import machine
from harness.spec import Scenario

GROUP = "finetune_bench"


def load(path: str) -> ModuleType:
    """Import a plugin file, or a module by the name an entry point gives. Raises `Refused` if there is none.

    A file may import what lies beside it.
    """
    if not path.endswith(".py"):
        return importlib.import_module(path)
    file = Path(path)
    if not file.is_file():
        raise Refused(f"--plugin {path}: no such file")
    name = f"plugin_{file.stem}_{hashlib.sha256(bytes(file.resolve())).hexdigest()[:8]}"  # two may have one file name
    if loaded := sys.modules.get(name):
        return loaded
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise Refused(f"--plugin {path}: not a Python file")
    if (beside := str(file.resolve().parent)) not in sys.path:
        sys.path.append(beside)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def installed() -> tuple[str, ...]:
    """Modules of installed plugins, without importing them."""
    return tuple(sorted(entry.value for entry in metadata.entry_points(group=GROUP)))


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent knows of a model: its cost in GMAC at 224 px, and its published weights by name."""

    gmacs: float
    published: dict[str, Published] = {}


class BackendFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent knows of a backend without importing its framework."""

    models: dict[str, ModelFacts]
    engines: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    engine_packages: dict[str, tuple[str, ...]] = {}
    """Those of `packages` that only one engine uses."""

    def versions(self, engine: str | None) -> dict[str, str]:
        """Installed versions of what computes with this engine: its own packages and those that all engines use."""
        own = self.engine_packages.get(engine or "", ())
        others = {name for names in self.engine_packages.values() for name in names if name not in own}
        found = machine.versions(self.packages)
        return {
            name: found[name] for name in (*self.packages, "finetune-bench") if name in found and name not in others
        }


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """What plugins bring. `models` are further models of a backend; `datasets` maps a name to the plugin it is from."""

    backends: dict[str, BackendFacts] = {}
    models: dict[str, dict[str, ModelFacts]] = {}
    scenarios: tuple[Scenario, ...] = ()
    datasets: dict[str, str] = {}


def describe(paths: list[str]) -> Names:
    """Import plugins and say what they bring; the parent calls this in a worker."""
    modules = [load(path) for path in paths]
    models: dict[str, dict[str, ModelFacts]] = {}
    for module in modules:
        for backend, offered in getattr(module, "MODELS", {}).items():
            models.setdefault(backend, {}).update({model.name: _model_facts(model) for model in offered})
    return Names(
        backends={name: facts(backend) for module in modules for name, backend in _backends(module).items()},
        models=models,
        scenarios=tuple(scenario for module in modules for scenario in getattr(module, "SCENARIOS", ())),
        datasets={name: path for module, path in zip(modules, paths, strict=True) for name in _datasets(module)},
    )


def facts(backend: Backend) -> BackendFacts:
    """What a backend's module says about itself without importing its framework."""
    return BackendFacts(
        models={name: _model_facts(model) for name, model in backend.MODELS.items()},
        engines=backend.ENGINES,
        formats=backend.FORMATS,
        packages=backend.PACKAGES,
        engine_packages=dict(getattr(backend, "ENGINE_PACKAGES", {})),
    )


def _model_facts(model: Model) -> ModelFacts:
    return ModelFacts(gmacs=model.gmacs, published=dict(model.published))


def find_backend(name: str, paths: Sequence[str] = ()) -> Backend:
    """A backend's module: a plugin's, or `backends.<name>`."""
    for path in paths:
        if name in (brought := _backends(load(path))):
            return brought[name]
    return cast(Backend, importlib.import_module(f"backends.{name}"))


def find_model(backend: str, name: str, paths: Sequence[str]) -> tuple[Backend, Model]:
    """A backend's module and one of its models, a plugin's before the backend's own. Raises `Refused`."""
    module = find_backend(backend, paths)
    offered = dict(module.MODELS)
    for path in paths:
        offered.update({model.name: model for model in getattr(load(path), "MODELS", {}).get(backend, ())})
    if name not in offered:
        raise Refused(f"{backend} has no model {name}; it has {', '.join(sorted(offered))}")
    return module, offered[name]


def dataset(path: str, name: str) -> Any:
    """What a plugin's dataset function returns."""
    return _datasets(load(path))[name]()


def _backends(module: ModuleType) -> dict[str, Backend]:
    return cast(dict[str, Backend], getattr(module, "BACKENDS", {}))


def _datasets(module: ModuleType) -> dict[str, Any]:
    return cast(dict[str, Any], getattr(module, "DATASETS", {}))
