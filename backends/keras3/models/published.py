"""The ImageNet weights of keras.applications that fit this backend's networks without changes.

Keras gives no digest of MobileNetV2's files. Its EfficientNet is left out because it normalises images inside the
network. A test compares this table with Keras.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.data.checkpoint import NORMALISATIONS, Published
from harness.data.imagenet_classes import CLASSES

_FOLDER = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2"


def _mobilenet(width: float) -> Published:
    return Published(
        url=f"{_FOLDER}/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_224.h5",
        normalisation=NORMALISATIONS["minus-one-to-one"],
        classes=CLASSES,
    )


MOBILENET_V2: Mapping[float, Published] = {width: _mobilenet(width) for width in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)}
"""Files with the classifier, by width."""
