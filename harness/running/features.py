"""Kept features in a run: which stages have them, where they are stored, and the check that they are the network's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.contract import Dividing, Session
from harness.data.checkpoint import Normalisation, tensors_digest
from harness.data.feed import Feed, normalise
from harness.data.kept_features import KeptFeatures, features_folder, filled
from harness.errors import Declined
from harness.running.evaluate import Evaluator
from harness.spec import Case, Stage


class FeatureKeeping:
    """Makes the `KeptFeatures` of a session's stages. `root` is a folder that later processes read, or None.

    `versions` are those of the packages that compute the features.
    """

    def __init__(
        self,
        session: Session,
        case: Case,
        normalisation: Normalisation,
        root: str | None = None,
        versions: Mapping[str, str] | None = None,
        now: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._session, self._case, self._normalisation = session, case, normalisation
        self._root, self._versions, self._now = root, versions or {}, now

    def for_training(self, stage: Stage) -> KeptFeatures | None:
        """Return what a stage trains from: None for images. Raise `Declined` if the session cannot keep features."""
        if self._case.features == "live" or stage.fixed_part == "none":
            return None
        if not isinstance(self._session, Dividing):
            raise Declined(f"{self._case.backend_name} cannot compute the features apart; use --features live")
        return self._kept(self._session, stage, stage.batch_size, self._root, warm_up=True)

    def for_evaluation(self, stage: Stage, batch_size: int) -> KeptFeatures | None:
        """Return what is evaluated between the epochs of a stage: features where the whole backbone is fixed."""
        if stage.fixed_part != "backbone" or not isinstance(self._session, Dividing):
            return None
        return self._kept(self._session, stage, batch_size, self._root if self._case.features == "kept" else None)

    def _kept(
        self, session: Dividing, stage: Stage, batch_size: int, root: str | None, *, warm_up: bool = False
    ) -> KeptFeatures:
        part, layout, normalisation = stage.fixed_part, self._session.batch_layout, self._normalisation

        def compute(images: NDArray[np.uint8]) -> NDArray[Any]:
            return session.features(normalise(images, normalisation, layout), part)

        folder = features_folder(root, self._facts(stage, batch_size)) if root else None
        return KeptFeatures(part, batch_size, compute, folder, self._now, warm_up=warm_up)

    def _facts(self, stage: Stage, batch_size: int) -> dict[str, Any]:
        case, effective = self._case, self._session.effective()
        fixed = {t.name: t.array for t in self._session.state() if stage.is_frozen(t.part, t.block)}
        return {
            "backend": case.backend_name,
            "versions": self._versions,
            "model": case.model,
            "part": stage.fixed_part,
            "weights": tensors_digest(fixed),
            "normalisation": self._normalisation,
            "image_size": case.image_size,
            "batch_size": batch_size,
            "precision": case.precision,
            "layout": case.layout,
            "compile": case.compile,
            "native_defaults": case.idiom,
            "device": effective.device_name,
            "threads": effective.threads,
            "settings": effective.settings,
        }


def features_difference(session: Session, feed: Feed, evaluator: Evaluator) -> float | None:
    """Return the largest difference between logits from kept features and logits from the images themselves.

    It is relative to the largest logit, and covers one training batch as it was delivered and one evaluated batch.
    Returns None where no features are kept. The session has the weights of the end of the stage.
    """
    found, size = [], evaluator.batch_size
    if feed.kept is not None and feed.example is not None and isinstance(session, Dividing):
        inputs, images = feed.example
        live = session.predict(filled(normalise(images[:size], feed.normalisation, feed.layout), size))
        found.append(_relative(live, session.predict_kept(filled(inputs[:size], size), feed.kept.part)))
    if evaluator.kept is not None:
        live = session.predict(evaluator.images("val"))
        kept = evaluator.logits("val")[: len(live)]
        found.append(_relative(live[: len(kept)], kept))
    return max(found, default=None)


def _relative(live: NDArray[Any], kept: NDArray[Any]) -> float:
    difference = np.abs(live.astype(np.float64) - kept).max()
    return float(difference / max(1.0, float(np.abs(live).max())))
