"""Folders made at random: what is said of them is right, or one line names the thing and the remedy."""

from __future__ import annotations

import functools
import io
import os
import re
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.datasets.folder import list_folder
from benchmarks.datasets.prepare import prepare_folder
from harness.data.dataset import images_per_class
from harness.errors import Refused, printable

SPLIT_LIKE = ["train", "Train", "test_set", "Testing", "val", "valid", "train2017", "seg_train", "seg_test"]
CLASS_LIKE = [
    *("cats", "Cats", "CATS", "dogs", "a b", "a b ", "trains", "0", "00", "-x", "n\\a", "cat.png"),
    *("K\u00e4fer", "Ka\u0308fer", "caf\udce9", "new\nline", "\N{SNOWMAN}", "\u202eltr", "x" * 200),
]
OTHER = ["images", "data", ".git", "__MACOSX", ".ipynb_checkpoints", "@eaDir", "labels", "masks", "extra"]
NAMES = st.sampled_from(SPLIT_LIKE + CLASS_LIKE + OTHER)
ENDINGS = [".png", ".PNG", ".jpg", ".jpeg", ".tif", ".webp", ".jfif", ".gif", ".txt", ".heic", ".png.part", ""]
REMEDY = re.compile(
    r"nearest: |add |remove|rename|use |keep|give |name |needed|needs|leave|make them|sort |repair|put "
)


def encoded(number: int, format_: str = "PNG", size: tuple[int, int] = (9, 12), **how: object) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    memory = io.BytesIO()
    Image.fromarray(pixels).save(memory, format_, **how)
    return memory.getvalue()


@functools.cache
def odd() -> dict[int, bytes]:
    """Contents that are damaged, unusable or unusual, by a negative number."""
    second = [Image.new("RGB", (12, 9), "red")]
    every = [
        *(b"", b"no image", b"\x89PNG\r\n\x1a\n broken", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        *(b"version https://git-lfs.github.com/spec/v1\n", b"<html></html>", encoded(1)[:-30], b"\0" * 200),
        *(encoded(2, "JPEG")[:-40], encoded(3, size=(1, 1)), encoded(4, "JPEG"), encoded(5, "WEBP"), encoded(6, "BMP")),
        *(encoded(n, kind, save_all=True, append_images=second) for n, kind in enumerate(("TIFF", "GIF", "PNG"), 7)),
    ]
    return {-number: one for number, one in enumerate(every, 1)}


@functools.cache
def content(number: int) -> bytes:
    return odd()[number] if number < 0 else encoded(number)


@st.composite
def files(draw: st.DrawFn) -> dict[str, int]:
    """Mostly sound folders, in one of the usual shapes, with disorder in them."""
    classes = draw(
        st.lists(
            st.sampled_from([*CLASS_LIKE, "train", "test"]),
            min_size=draw(st.sampled_from([1, 2, 2, 2])),
            max_size=4,
            unique=True,
        )
    )
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
        number = draw(st.one_of(st.sampled_from([*odd(), *made.values()]), st.integers(0, 40)))
        made["/".join(part for part in parts if part not in ("", "."))] = number
    return made


LINKS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.booleans()), max_size=3)
EMPTY = st.one_of(st.just([]), st.just([]), st.lists(NAMES, max_size=2))
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "validation_split": st.sampled_from([0.2, 0.5, 0.9]),
        "test_split": st.sampled_from([0.2, 0.5]),
        "seed": st.integers(0, 2),
        "named_splits": st.one_of(
            st.sampled_from(["none", "train=train", "train=.", "train=Train,test=test_set", "train=.,val=val"]),
            st.builds("train={},test={}".format, NAMES, NAMES),
        ),
    },
)


def write(root: Path, made: dict[str, int], links: list[tuple[int, int, bool]], empty: list[str]) -> None:
    for name in empty:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, number in made.items():
        path = root / name
        if not any(above.is_file() for above in path.parents) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(number))
    every = sorted(path for path in root.rglob("*") if not path.is_symlink())
    outside = root.parent / "outside"
    (outside / "cats").mkdir(parents=True)
    (outside / "cats/far.png").write_bytes(content(900))
    for count, (at, to, hard) in enumerate(links):
        targets = [root, *every, root / "nowhere", outside, outside / "cats/far.png"]
        place, target = every[at % len(every)], targets[to % len(targets)]
        link = (place if place.is_dir() else place.parent) / f"link{count}.png"
        if hard and target.is_file():
            link.hardlink_to(target)
        else:
            link.symlink_to(target)


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


def judged(root: Path, cache: Path, options: dict[str, Any]) -> str:
    try:
        meta = prepare_folder(root, name="made", image_size=8, cache=cache, **options).meta
        listing = list_folder(root, **options)
    except Refused as refusal:
        message = printable(str(refusal))
        assert REMEDY.search(message), message
        assert message.isprintable(), ascii(message)
        message.encode()
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
        assert listing.classes[file.label] in unicodedata.normalize("NFC", file.name).split("/")[:-1]
    for several in {name.casefold() for name in meta.classes}:
        alike = [name for name in meta.classes if name.casefold() == several]
        assert len(alike) == 1 or any(", ".join(alike) in note for note in meta.notes)
    contents = [{file.sha256 for file in files if file.size} for files in listing.splits.values()]
    assert sum(map(len, contents)) == len(set.union(*contents))
    (entry,) = cache.glob("datasets/*/meta.json")
    assert all(min(images_per_class(entry.parent, split, len(meta.classes))) > 0 for split in meta.counts)
    return "used"


def test_every_file_is_an_image_of_its_class_or_counted_or_the_folder_is_refused_in_one_line() -> None:
    outcomes = set()

    @settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @example({f"{name}/{number}.png": number for name in ("cats", "dogs") for number in (0, 1)}, [], [], {})
    @given(files(), LINKS, EMPTY, st.one_of(st.just({}), st.just({}), OPTIONS))
    def check(
        made: dict[str, int], links: list[tuple[int, int, bool]], empty: list[str], options: dict[str, Any]
    ) -> None:
        with tempfile.TemporaryDirectory() as place:
            root = Path(place) / "root"
            write(root, made, links, empty)
            outcomes.add(judged(root, Path(place) / "cache", options))

    check()
    assert outcomes == {"used", "refused"}
