"""The new head: layers on the backbone's features, and the map of its tensors. The harness initialises it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from backends.keras3.models import maps
from harness.running.initial_weights import HEAD_LAYERS, MLP_DROPOUT, MLP_WIDTHS


class Head(NamedTuple):
    """Symbolic logits [n, classes] in Keras' floatx, and the rows of the head's tensors."""

    logits: Any
    table: tuple[maps.MappedVariable, ...]


def _layer(name: str) -> str:
    return name.replace(".", "_")


ROWS: tuple[maps.MappedVariable, ...] = tuple(
    row for layers in HEAD_LAYERS.values() for name in layers for row in maps.rows(_layer(name), name, "dense", -1)
)
"""The tensors of every kind of head."""


def build(kind: Literal["linear", "mlp"], features: Any, classes: int) -> Head:
    """Build a head on symbolic features [n, width]. `mlp` is 128 ReLU, dropout, 64 ReLU, logits."""
    import keras

    widths = (*(MLP_WIDTHS if kind == "mlp" else ()), classes)
    table: tuple[maps.MappedVariable, ...] = ()
    for place, (name, width) in enumerate(zip(HEAD_LAYERS[kind], widths, strict=True)):
        last = place == len(widths) - 1
        layer = _layer(name)
        # Logits stay in float32 under mixed precision, as Keras recommends.
        dense = keras.layers.Dense(
            width, activation=None if last else "relu", name=layer, dtype=keras.config.floatx() if last else None
        )
        features = dense(features)
        table += maps.rows(layer, name, "dense", -1)
        if kind == "mlp" and place == 0:
            features = keras.layers.Dropout(MLP_DROPOUT, name="head_dropout")(features)
    return Head(features, table)
