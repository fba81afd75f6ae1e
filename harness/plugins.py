"""Plugins with a user's backends, models, scenarios and datasets: a Python file (`--plugin`) or an entry point.

A plugin is a module with any of

    BACKENDS = {"name": module}             a backend, with the names of `contract.Backend`
    MODELS = {"pytorch": [Model(...)]}      more models of a backend
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

from harness import PREFIX
from harness.contract import Backend, Model
from harness.data.checkpoint import Published
from harness.errors import Refused
from harness.process import machine
from harness.spec import Scenario

GROUP = "finetune_bench"
FILES = "plugin_"
"""Beginning of the module names of plugin files."""


def load(path: str) -> ModuleType:
    """Import a plugin file, or the module of an entry point. Raise `Refused` if the file does not exist.

    A file may import modules in its folder.
    """
    if not path.endswith(".py"):
        return importlib.import_module(path)
    file = Path(path)
    if not file.is_file():
        raise Refused(f"--plugin {path}: no such file")
    name = f"{FILES}{file.stem}_{hashlib.sha256(bytes(file.resolve())).hexdigest()[:8]}"  # file names may repeat
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


def loaded() -> tuple[str, ...]:
    """Return the plugin files that this process has imported."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(FILES)]
    return tuple(module.__file__ for module in modules if module.__file__)


def installed() -> tuple[str, ...]:
    """Return the module names of installed plugins, without importing them."""
    return tuple(sorted(entry.value for entry in metadata.entry_points(group=GROUP)))


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a model for the parent: its cost in GMAC at 224 px, and its published weights by name."""

    gmacs: float
    published: dict[str, Published] = {}


class BackendFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a backend for the parent, which does not import its framework."""

    models: dict[str, ModelFacts]
    engines: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    engine_packages: dict[str, tuple[str, ...]] = {}
    """The packages that only one engine uses."""

    def versions(self, engine: str | None) -> dict[str, str]:
        """Return the installed versions of the packages that this engine uses, alone or with other engines."""
        used = self.engine_packages.get(engine or "", ())
        others = {name for names in self.engine_packages.values() for name in names if name not in used}
        found, names = machine.versions(self.packages), (*self.packages, "finetune-bench")
        return {name: found[name] for name in names if name in found and name not in others}


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of plugins. `models` adds models to a backend; `datasets` maps a name to the path of its plugin."""

    backends: dict[str, BackendFacts] = {}
    models: dict[str, dict[str, ModelFacts]] = {}
    scenarios: tuple[Scenario, ...] = ()
    datasets: dict[str, str] = {}


def describe(paths: list[str]) -> Names:
    """Import plugins and return their contents; the parent calls this in a worker."""
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
    """Return the facts of a backend's module, without importing its framework."""
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
    """Return a backend's module: a plugin's, or `backends.<name>`."""
    for path in paths:
        if name in (backends := _backends(load(path))):
            return backends[name]
    return cast(Backend, importlib.import_module(f"{PREFIX}backends.{name}"))


def prepare_process(backend: str) -> None:
    """Let a backend of this project prepare this process, before a plugin imports its framework; others do nothing."""
    name = f"{PREFIX}backends.{backend}"
    if backend.isidentifier() and importlib.util.find_spec(name) is not None:
        getattr(importlib.import_module(name), "prepare_process", lambda: None)()


def find_model(backend: str, name: str, paths: Sequence[str]) -> tuple[Backend, Model]:
    """Return a backend's module and one of its models; a plugin's model takes precedence. Raise `Refused`."""
    module = find_backend(backend, paths)
    offered = dict(module.MODELS)
    for path in paths:
        offered.update({model.name: model for model in getattr(load(path), "MODELS", {}).get(backend, ())})
    if name not in offered:
        raise Refused(f"{backend} has no model {name}; choose one of {', '.join(sorted(offered))}")
    return module, offered[name]


def dataset(path: str, name: str) -> Any:
    """Return the result of a plugin's dataset function."""
    return _datasets(load(path))[name]()


def _backends(module: ModuleType) -> dict[str, Backend]:
    return cast(dict[str, Backend], getattr(module, "BACKENDS", {}))


def _datasets(module: ModuleType) -> dict[str, Any]:
    return cast(dict[str, Any], getattr(module, "DATASETS", {}))
