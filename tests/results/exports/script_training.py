"""A program that trains a case in this process and then runs its script on the same batches, both in float64.

It prints, for each scenario, the losses of both and the test accuracies. Frameworks never share a process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from msgspec.structs import replace

from benchmarks.choosing.scenarios import FIVE, RECIPES, SCENARIOS
from benchmarks.datasets.arrays import ArraySet, prepare_arrays
from benchmarks.datasets.embedded import TARGET, target
from benchmarks.preparing.embedded_networks import SHIPPED
from benchmarks.preparing.script_weights import export_backbone
from harness.data.checkpoint import Normalisation, read_meta
from harness.data.dataset import Dataset
from harness.data.feed import Feed, normalise, stage_seed
from harness.running.opening import WITHOUT_CHECKPOINT, OpenedCase, open_case
from harness.running.run import run_case
from harness.spec import Case, Job, Scenario
from results.exports.scripts.case_script import case_script, weights_name
from results.exports.scripts.settings import Described

MODEL = "mobilenet-v2-0.35"
COUNTS = {"train": 96, "val": 16, "test": 32}
NETWORK = SHIPPED / f"{MODEL}.safetensors"


def shortened(scenario: Scenario) -> Scenario:
    """The scenario with two epochs of six steps in each stage."""
    stages = (replace(stage, epochs=2, batch_size=16) for stage in scenario.stages)
    return replace(scenario, stages=tuple(stages))


def trained(backend: str, folder: Path, scenarios: Sequence[str] = FIVE) -> Iterator[dict[str, Any]]:
    arrays = {split: (images[: COUNTS[split]], labels[: COUNTS[split]]) for split, (images, labels) in target().items()}
    data = prepare_arrays("embedded", ArraySet(tuple(c.name for c in TARGET), arrays, "a test"), cache=folder / "cache")
    for name in scenarios:
        case = Case(
            backend=backend, model=MODEL, scenario=shortened(SCENARIOS[name](RECIPES["embedded"])), precision="fp64",
            dataset=data.meta.name, dataset_sha256=data.meta.sha256, image_size=64, dropout=False,
            engine="tensorflow" if backend == "keras3" else None,
        )  # fmt: skip
        random = case.scenario.start == "random"
        job = Job(case=case, dataset_path=str(data.folder), checkpoint_path=None if random else str(NETWORK))
        opened = open_case(job)
        (folder / name).mkdir()
        record = run_case(job, str(folder / name), time.time(), lambda event: None)
        scaling = WITHOUT_CHECKPOINT if random else read_meta(NETWORK).normalisation
        described = Described(replace(record, case=replace(case, precision="fp32")), scaling, weights_name(case))
        script = folder / f"{name}.py"
        script.write_text(case_script(described))
        words = [
            "--data",
            str(folder),
            "--out",
            str(folder / name / ("model.pth" if backend == "pytorch" else "m.keras")),
        ]
        if not random:
            export_backbone(case, str(NETWORK), str(folder / weights_name(case)))
            words += ["--weights", str(folder / weights_name(case))]
        module = imported(script)
        ours = [list(map(float, stage.losses)) for stage in record.stages]
        run = run_torch if backend == "pytorch" else run_keras
        theirs, printed = run(module, words, opened, Batches(case, opened.dataset, scaling))
        accuracy = float(printed.rpartition("accuracy ")[2].split(",")[0])
        assert record.test is not None
        yield {"scenario": name, "record": ours, "script": theirs, "accuracy": [record.test.accuracy, accuracy]}


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem.replace("-", "_"), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Batches:
    """The batches of the harness, where a script reads a folder: a feed for each stage, and whole splits."""

    def __init__(self, case: Case, dataset: Dataset, scaling: Normalisation) -> None:
        self._case, self._dataset, self._scaling, self._stage = case, dataset, scaling, 0
        self.classes = list(dataset.meta.classes)

    def stage(self) -> Feed:
        """The feed of the next stage."""
        number, self._stage = self._stage, self._stage + 1
        stage = self._case.scenario.stages[number]
        return Feed(
            self._dataset.splits["train"], batch_size=stage.batch_size, epochs=stage.epochs, layout="nhwc",
            seed=stage_seed(self._case, number), image_size=64, normalisation=self._scaling, augmentations=(),
        )  # fmt: skip

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The images [n, h, w, 3] and labels of a whole split."""
        split = self._dataset.splits[name]
        return normalise(split.images[split.ids], self._scaling, "nhwc"), split.labels


def run_torch(module: Any, words: list[str], opened: OpenedCase, batches: Batches) -> tuple[list[list[float]], str]:
    import torch

    class Loader:
        def __init__(self, folder: Path, batch_size: int, training: bool) -> None:
            self.feed = batches.stage() if training else None
            self.dataset, self.folder, self.epoch = batches, folder, 0

        def __len__(self) -> int:
            return self.feed.steps_per_epoch if self.feed else 1

        def __iter__(self) -> Iterator[tuple[Any, Any]]:
            pairs: Any = [batches.split(self.folder.name)]
            if self.feed:
                pairs = [(batch.inputs, batch.labels) for batch in self.feed.epoch(self.epoch)]
                self.epoch += 1
            for images, labels in pairs:
                yield torch.from_numpy(images).permute(0, 3, 1, 2).double(), torch.from_numpy(labels)

    built, epoch = module.build_model, module.train_one_epoch
    losses: list[list[float]] = []
    optimizers: list[Any] = []

    def build(*arguments: Any) -> Any:
        model = built(*arguments).double()
        names = {name.replace("head.", "classifier."): array for name, array in opened.start.items()}
        model.load_state_dict({name: torch.tensor(array) for name, array in names.items()})
        return model

    def train_one_epoch(model: Any, loader: Any, optimizer: Any, *others: Any) -> list[float]:
        if not any(optimizer is one for one in optimizers):
            optimizers.append(optimizer)
            losses.append([])
        found: list[float] = epoch(model, loader, optimizer, *others)
        losses[-1] += found
        return found

    module.make_loader, module.build_model, module.train_one_epoch = Loader, build, train_one_epoch
    return losses, said(module.main, words)


def run_keras(module: Any, words: list[str], opened: OpenedCase, batches: Batches) -> tuple[list[list[float]], str]:
    import keras

    from backends.keras3.models import maps

    class Folder(keras.utils.PyDataset):  # type: ignore[misc]
        training: Any = None

        def __init__(self, folder: Path, batch_size: int, training: bool) -> None:
            super().__init__()
            self.feed, self.classes = batches.stage() if training else None, batches.classes
            self.pairs: list[Any] = [] if training else [batches.split(folder.name)]
            if training:
                Folder.training = self
                self.show(0)

        def __len__(self) -> int:
            return len(self.pairs)

        def __getitem__(self, index: int) -> Any:
            return self.pairs[index]

        def show(self, epoch: int) -> None:
            assert self.feed is not None
            self.pairs = [(batch.inputs, batch.labels) for batch in self.feed.epoch(epoch)]

    losses: list[list[float]] = []

    class Losses(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            # Not `on_epoch_end` of the dataset: Keras also calls it after it has looked at the first batch.
            Folder.training.show(epoch)
            self.total = 0.0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            mean = float(logs["loss"])  # over the batches of the epoch so far
            losses[-1].append(mean * (batch + 1) - self.total)
            self.total = mean * (batch + 1)

    built, fit = module.build_model, keras.Model.fit
    rows = {row.variable: row for row in opened.session.table}  # type: ignore[attr-defined]

    def build(*arguments: Any) -> Any:
        model = built(*arguments)
        for variable in model.weights:
            row = rows[variable.path]
            variable.assign(maps.fitted(opened.start[row.name], row, variable.shape))
        return model

    def fit_and_note(self: Any, *arguments: Any, callbacks: Any = (), **options: Any) -> Any:
        losses.append([])
        return fit(self, *arguments, callbacks=[*callbacks, Losses()], verbose=0, **options)

    module.ImageFolder, module.build_model, keras.Model.fit = Folder, build, fit_and_note
    try:
        return losses, said(module.main, words)
    finally:
        keras.Model.fit = fit


def said(main: Callable[[], None], words: list[str]) -> str:
    """What a script prints."""
    sys.argv = ["script.py", *words]
    (Path(words[1]) / "test").mkdir(exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main()
    return printed.getvalue()


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.stdout.write(json.dumps(list(trained(words[0], Path(words[1]), words[2:] or FIVE))))
