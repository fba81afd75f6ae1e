"""Folders made at random: what is said of them is right, or one line names the thing and the remedy."""

from __future__ import annotations

import functools
import io
import os
import re
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.datasets.folder import list_folder
from benchmarks.datasets.prepare import prepare_folder
from harness.data.dataset import images_per_class
from harness.errors import Refused

SPLIT_LIKE = ["train", "Train", "test_set", "Testing", "val", "valid", "train2017", "seg_train", "seg_test"]
CLASS_LIKE = ["cats", "dogs", "a b", "trains", "0", "Käfer", "new\nline", "-x"]
OTHER = ["images", "data", ".git", "__MACOSX", ".ipynb_checkpoints", "labels", "extra"]
NAMES = st.sampled_from(SPLIT_LIKE + CLASS_LIKE + OTHER)
ENDINGS = [".png", ".PNG", ".jpg", ".jpeg", ".jfif", ".gif", ".txt", ".heic", ""]
REMEDY = re.compile(r"add |remove|rename|use |keep|give |name |needed|needs|leave|make them|sort |repair|put ")


DAMAGE = {-1: b"", -2: b"no image", -3: b"\x89PNG\r\n\x1a\n broken"}


@functools.cache
def content(number: int) -> bytes:
    if number in DAMAGE:
        return DAMAGE[number]
    pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    memory = io.BytesIO()
    Image.fromarray(pixels).save(memory, "PNG")
    return memory.getvalue()


@st.composite
def files(draw: st.DrawFn) -> dict[str, int]:
    """Mostly sound folders, in one of the usual shapes, with disorder in them."""
    classes = draw(st.lists(st.sampled_from([*CLASS_LIKE, "train", "test"]), min_size=1, max_size=3, unique=True))
    splits = draw(st.one_of(st.just([""]), st.lists(st.sampled_from(SPLIT_LIKE), max_size=3, unique=True)))
    around = draw(st.sampled_from(["", "", "data", "zip/images", "train", "cats"]))
    count = draw(st.integers(2, 5))
    made: dict[str, int] = {}
    for split in splits or [""]:
        for name in classes:
            for number in range(count):
                made["/".join([*filter(None, (around, split)), name, f"{number}.png"])] = 1000 + len(made)
    for _ in range(draw(st.integers(0, 6))):
        above = draw(st.one_of(st.sampled_from(sorted({str(Path(one).parent) for one in made})), st.just("")))
        parts = [
            above,
            *draw(st.lists(NAMES, max_size=2)),
            f"{draw(st.integers(0, 9))}{draw(st.sampled_from(ENDINGS))}",
        ]
        number = draw(st.one_of(st.sampled_from([*DAMAGE, *made.values()]), st.integers(0, 40)))
        made["/".join(part for part in parts if part not in ("", "."))] = number
    return made


LINKS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=2)


def write(root: Path, made: dict[str, int], links: list[tuple[int, int]]) -> None:
    for name, number in made.items():
        path = root / name
        if not any(above.is_file() for above in path.parents) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(number))
    every = sorted(path for path in root.rglob("*") if not path.is_symlink())
    for count, (at, to) in enumerate(links):
        place, target = every[at % len(every)], [root, *every, root / "nowhere"][to % (len(every) + 2)]
        (place if place.is_dir() else place.parent).joinpath(f"link{count}.png").symlink_to(target)


def found_in(place: Path, above: frozenset[str] = frozenset()) -> int:
    """Files, and links that lead nowhere or back, counted in a way of its own."""
    above |= {os.path.realpath(place)}
    number = 0
    for entry in place.iterdir():
        if entry.is_dir() and os.path.realpath(entry) not in above:
            number += found_in(entry, above)
        else:
            number += 1
    return number


def judged(root: Path, cache: Path) -> str:
    try:
        meta = prepare_folder(root, name="made", image_size=8, cache=cache).meta
        listing = list_folder(root)
    except Refused as refusal:
        assert REMEDY.search(str(refusal)), refusal
        return "refused"
    used = [file for files in listing.splits.values() for file in files]
    names = [file.name for file in used] + [one.name for one in listing.skipped]
    assert len(names) == len(set(names)) == found_in(root)
    assert sum(meta.counts.values()) + len(meta.skipped) == found_in(root)
    if meta.skipped:
        assert any(re.match(f"{len(meta.skipped)} files? skipped: ", note) for note in meta.notes)
    assert (
        len({re.sub(r"\W|\d|set|seg_?|ing", "", name.lower()) for name in meta.classes} & {"train", "test", "val"}) < 2
    )
    for file in used:
        assert listing.classes[file.label] in file.name.split("/")[:-1]
    contents = [{file.sha256 for file in files if file.size} for files in listing.splits.values()]
    assert sum(map(len, contents)) == len(set.union(*contents))
    (entry,) = cache.glob("datasets/*/meta.json")
    assert all(min(images_per_class(entry.parent, split, len(meta.classes))) > 0 for split in meta.counts)
    return "used"


def test_every_file_is_an_image_of_its_class_or_counted_or_the_folder_is_refused_in_one_line() -> None:
    outcomes = set()

    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @example({f"{name}/{number}.png": number for name in ("cats", "dogs") for number in (0, 1)}, [])
    @given(files(), LINKS)
    def check(made: dict[str, int], links: list[tuple[int, int]]) -> None:
        with tempfile.TemporaryDirectory() as place:
            root = Path(place) / "root"
            write(root, made, links)
            outcomes.add(judged(root, Path(place) / "cache"))

    check()
    assert outcomes == {"used", "refused"}
