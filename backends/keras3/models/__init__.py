"""The models of this backend, one builder and one weight map each. Only the builders import Keras."""

from __future__ import annotations

from collections.abc import Mapping

from backends.keras3.models import efficientnet, mobilenet_v2, resnet
from backends.keras3.models.network import KerasNetwork, undrawn
from harness.contract import Model

__all__ = ["CLASSIFIER_LAYER", "MODELS", "OLDER_CLASSIFIER_LAYER", "KerasNetwork", "undrawn"]

MODELS: Mapping[str, Model] = {
    model.name: model for model in (*resnet.MODELS, *efficientnet.MODELS, *mobilenet_v2.MODELS)
}

CLASSIFIER_LAYER = "predictions"
"""Name of the classifier's Dense layer in keras.applications."""
OLDER_CLASSIFIER_LAYER = "Logits"
"""Its name in the MobileNetV2 of 2018."""
