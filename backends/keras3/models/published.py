"""The ImageNet weights of keras.applications that this backend's networks take as they are, as facts.

Keras gives no digest of MobileNetV2's files. Its EfficientNet is left out: it was trained to normalise images in
itself. A test holds this table against Keras.
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
"""By width; with the classifier."""
