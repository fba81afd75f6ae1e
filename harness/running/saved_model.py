"""A fine-tuned network on disk: neutral file, the framework's own file, and a card with their description."""

from __future__ import annotations

from pathlib import Path

import msgspec

from harness.contract import Session
from harness.data.checkpoint import Normalisation, write_checkpoint
from harness.data.dataset import DatasetMeta
from harness.errors import Refused
from harness.spec import Case, key
from harness.whole_files import write_whole

NEUTRAL, CARD = "model.safetensors", "card.json"


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `card.json`. `native` is the file in the framework's own format, `side` the size before the crop."""

    case: Case
    classes: tuple[str, ...]
    normalisation: Normalisation
    side: int
    native: str


def keep_model(
    session: Session, case: Case, dataset: DatasetMeta, normalisation: Normalisation, folder: str | None
) -> dict[str, str]:
    """Write the network under `folder`, if one is given; return the paths by kind."""
    if folder is None:
        return {}
    home = Path(folder) / f"{case.label.replace('/', '_')}_{key(case)[:8]}"
    home.mkdir(parents=True, exist_ok=True)
    write_checkpoint(
        home / NEUTRAL,
        {tensor.name: tensor.array for tensor in session.state()},
        model=case.model,
        normalisation=normalisation,
        origin=f"{case.label} on {dataset.name}",
        classes=dataset.classes,
        head="head.",
        image_size=case.image_size,
        recipe=msgspec.to_builtins(case.scenario),
    )
    native = session.save_native(str(home))
    card = Card(case=case, classes=dataset.classes, normalisation=normalisation, side=dataset.side, native=native)
    write_whole(home / CARD, msgspec.json.format(msgspec.json.encode(card)))
    return {"model": str(home)}


def read_card(folder: str | Path) -> Card:
    """Read the card of a saved network. Raise `Refused` if the folder has no valid card."""
    path = Path(folder) / CARD
    if not path.is_file():
        raise Refused(f"{folder} has no {CARD}; give a folder that `run --save-model` wrote")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Card)
    except msgspec.DecodeError as error:
        raise Refused(f"{path} is invalid ({error}); save the network again with `run --save-model`") from error
