"""The ImageNet weights that torchvision and efficientnet_pytorch know by name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torchvision
from efficientnet_pytorch.utils import url_map
from numpy.typing import NDArray

from backends.pytorch.weights import import_weights
from harness.checkpoint import NORMALISATIONS, Normalisation
from harness.contract import Model
from harness.errors import Declined, Refused

_TORCHVISION = ("resnet18", "resnet34", "alexnet")
_EFFICIENTNET = ("efficientnet-b0", "efficientnet-b3")


def named_weights(model: Model) -> tuple[dict[str, NDArray[Any]], Normalisation, tuple[str, ...], str]:
    """Tensors, normalisation, class names, origin; from torch's cache, or downloaded into it.

    Raises `Declined` where there is neither, with the file to fetch and where to put it, and `Refused` if the file in
    the cache is not the one its name promises.
    """
    classes = tuple(torchvision.models.get_model_weights("resnet18").DEFAULT.meta["categories"])
    if model.name in _TORCHVISION:
        weights = torchvision.models.get_model_weights(model.name).DEFAULT
        preset = weights.transforms()
        url, normalisation = weights.url, Normalisation(mean=tuple(preset.mean), std=tuple(preset.std))
    elif model.name in _EFFICIENTNET:
        url, normalisation = url_map[model.name], NORMALISATIONS["imagenet"]
    else:
        raise Declined(_without_weights(model))
    arrays, _ = import_weights(str(_fetched(url)), model)
    return arrays, normalisation, classes, url


def _without_weights(model: Model) -> str:
    if model.name.startswith("mobilenet-v2"):
        return (
            f"torchvision's MobileNetV2 weights were trained with other padding than {model.name} has; use Keras' "
            "own, named on the keras3 backend or imported from a file with --checkpoint"
        )
    return f"PyTorch knows no named weights for {model.name}; give a file with --checkpoint"


def _fetched(url: str) -> Path:
    name = Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    digest = name.rpartition("-")[2].partition(".")[0]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=False)
        except OSError as error:  # urllib's errors are OSErrors
            raise Declined(f"no download ({error}); fetch {url} and put it at {path}") from error
        except RuntimeError as error:
            raise Refused(f"{url} did not deliver the file its name promises ({error}); try again") from error
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(digest):
        raise Refused(
            f"{path} is not the file its name promises (its SHA-256 begins {found[: len(digest)]}); "
            f"delete it and fetch {url}"
        )
    return path
