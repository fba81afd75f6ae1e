"""keras.applications' ImageNet weights, fetched by Keras or taken from its cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from backends.keras3 import weights
from backends.keras3.models import SOURCES, Source
from harness.checkpoint import NORMALISATIONS, Normalisation
from harness.contract import Model
from harness.errors import Declined

_CLASSES = Source(
    "imagenet_class_index.json",
    "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
)


def fetch(model: Model) -> tuple[dict[str, NDArray[Any]], Normalisation, tuple[str, ...], str]:
    """Tensors with the source classifier, their normalisation, its 1000 class names, and the address.

    Raises `Declined` with the file to fetch and where to put it.
    """
    if model.name not in SOURCES:
        raise Declined(_without_weights(model))
    source = SOURCES[model.name]
    arrays, _ = weights.read(str(_file(source)), model)
    index = json.loads(_file(_CLASSES).read_bytes())
    classes = tuple(index[str(place)][1] for place in range(len(index)))
    return arrays, NORMALISATIONS["minus-one-to-one"], classes, source.url


def _without_weights(model: Model) -> str:
    if model.name.startswith("efficientnet"):
        return (
            f"keras.applications' weights for {model.name} belong to a network that normalises images in itself; "
            "give efficientnet_pytorch's file with --checkpoint"
        )
    library = "torchvision's" if model.name.startswith("resnet") else "a"
    return f"keras.applications has no ImageNet weights for {model.name}; give {library} file with --checkpoint"


def _file(source: Source) -> Path:
    import keras

    home = Path(keras.config.keras_home() if hasattr(keras.config, "keras_home") else "~/.keras").expanduser()
    place = home / "models" / source.file
    if place.exists():
        return place
    try:
        return Path(keras.utils.get_file(source.file, source.url, cache_subdir="models"))
    except Exception as error:
        # get_file raises Exception itself, no subclass, when there is no network.
        if type(error) is not Exception and not isinstance(error, OSError):
            raise
        raise Declined(f"{source.url} cannot be fetched here; fetch it elsewhere and put it at {place}") from error
