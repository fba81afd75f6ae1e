"""Classify image files with a saved network, in a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.datasets.layout.scan import shown
from harness.data.checkpoint import read_checkpoint
from harness.data.dataset import Split
from harness.data.decode import Unreadable, decode
from harness.errors import Refused
from harness.running.evaluate import split_logits
from harness.running.opening import find_model_for
from harness.running.saved_model import NEUTRAL, read_card


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """The prediction for one file; `problem` says why the file cannot be read."""

    image: str
    label: str | None = None
    confidence: float = 0.0
    logits: tuple[float, ...] = ()
    problem: str = ""


def predict(model_dir: str, images: list[str], native: bool, plugins: list[str]) -> list[Prediction]:
    """Classify files and all files in folders, in order; they are decoded and cropped as in the run."""
    card = read_card(model_dir)
    case = card.case
    session = find_model_for(case, plugins, card.classes).open(case)
    if native:
        session.load_native(str(Path(model_dir) / card.native))
    else:
        session.load(read_checkpoint(Path(model_dir) / NEUTRAL).arrays)
    files = list(_files(images))
    pixels, problems = [], {}
    for file in files:
        try:
            pixels.append(decode(file, card.side).pixels)
        except Unreadable as error:
            problems[file] = str(error)
    readable = [file for file in files if file not in problems]
    answers = {file: Prediction(image=shown(file), problem=problem) for file, problem in problems.items()}
    if readable:
        stack = np.stack(pixels)
        ids = np.arange(len(stack))
        logits = split_logits(session, Split(stack, ids, ids), case.image_size, card.normalisation)
        for file, row in zip(readable, logits, strict=True):
            answers[file] = _prediction(file, row.astype(np.float64), card.classes)
    return [answers[file] for file in files]


def _prediction(
    file: Path, logits: np.ndarray[tuple[int], np.dtype[np.float64]], classes: tuple[str, ...]
) -> Prediction:
    shares = np.exp(logits - logits.max())
    best = int(logits.argmax())
    confidence = float(shares[best] / shares.sum())
    return Prediction(image=shown(file), label=classes[best], confidence=confidence, logits=tuple(map(float, logits)))


def _files(images: list[str]) -> Iterator[Path]:
    for name in images:
        path = Path(name)
        if not path.exists():
            raise Refused(f"{name}: no such file; give image files or folders")
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
