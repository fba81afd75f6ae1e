"""A name of a checkpoint means one file per model, whoever publishes it, in every backend that has the model.

The publishers are a file server on the loopback interface, with files of the right format and random values.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.choosing.catalogue import Catalogue, read_catalogue
from benchmarks.datasets.cache import ENVIRONMENT, clear_cache
from benchmarks.datasets.downloads import MIRROR
from benchmarks.preparing.checkpoints import FoundCheckpoint, find_checkpoint
from harness.data.checkpoint import NORMALISATIONS, Published, read_checkpoint
from harness.errors import Declined, Refused
from tests.benchmarks.commanding import ROOT, invoke, records
from tests.benchmarks.publisher import Publisher, publisher, sha256
from tests.harness.cases import tiny_arrays

NOWHERE = "http://127.0.0.1:9"
KERAS_FOLDER = "/tensorflow/keras-applications/mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_"
SMALL = ("--epochs", "1", "--image-size", "64", "--batch-size", "4", "--warmup-steps", "0", "--scenario", "freeze-conv",
         "--seeds", "1", "--certify", "never")  # fmt: skip
needs_torch = pytest.mark.skipif(not find_spec("efficientnet_pytorch"), reason="torch is not installed")
needs_both = pytest.mark.skipif(
    not all(map(find_spec, ("efficientnet_pytorch", "keras", "tensorflow"))), reason="torch or keras is not installed"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files as torchvision, efficientnet_pytorch and keras.applications publish them."""
    folder = tmp_path_factory.mktemp("published")
    subprocess.run([sys.executable, "-m", "tests.benchmarks.publisher", str(folder)], check=True, cwd=ROOT, timeout=280)
    return folder


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Publisher]:
    """A publisher in place of every other, and a cache of the test's own."""
    with publisher() as found:
        monkeypatch.setenv(MIRROR, found.address)
        monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "cache"))
        yield found


def find(model: str, catalogue: Catalogue | None = None, name: str = "imagenet") -> FoundCheckpoint:
    def no_source() -> tuple[str, str]:
        raise AssertionError("nobody asked for the embedded task")

    return find_checkpoint(name, model, None, catalogue or read_catalogue(), no_source, lambda event: None)


def plugin(path: Path, backend: str, model: str, text: str) -> Path:
    """A plugin whose model is a backend's own with other published weights: the fields in `text` differ."""
    path.write_text(f"""
from msgspec.structs import replace
from backends import {backend}
from harness.data.checkpoint import NORMALISATIONS, Published
own = {backend}.MODELS["{model}"]
known = own.published.get("imagenet") or Published(url="http://x/x", normalisation=NORMALISATIONS["imagenet"])
MODELS = {{"{backend}": [replace(own, published={{"imagenet": replace(known, {text})}})]}}
""")
    return path


def tiny(folder: Path, server: Publisher, text: str = "", classes: int = 4) -> Catalogue:
    """A catalogue in which somebody publishes weights of the reference backend's tiny-cnn, without a digest."""
    np.savez(folder / "tiny.npz", **tiny_arrays())
    server.files["/colours/tiny.npz"] = (folder / "tiny.npz").read_bytes()
    fields = f"url='https://tiny.example/colours/tiny.npz', classes=tuple('abcd')[:{classes}], {text}"
    return read_catalogue([str(plugin(folder / "tiny.py", "reference", "tiny-cnn", fields))])


def photos(folder: Path, *splits: str) -> Path:
    """A folder of small photographs of two classes, below each of the splits."""
    draw = np.random.default_rng(0)
    for split in splits:
        for place, name in enumerate(("ants", "bees")):
            (folder / split / name).mkdir(parents=True)
            for number in range(10):
                pixels = draw.integers(0, 160, (72, 64, 3)).astype(np.uint8)
                pixels[:, :, place] += 60
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def readme(beginning: str, folder: Path) -> list[str]:
    """The words of the command in the README that begins so, on that folder."""
    (line,) = re.findall(
        rf"^\$ finetune-bench (run --data photos/ {beginning}.*)$", (ROOT / "README.md").read_text(), re.M
    )
    return [str(folder) if word == "photos/" else word for word in shlex.split(line)]


@needs_both
def test_the_readme_s_own_photos_on_a_resnet_end_with_0_in_both_frameworks_from_one_file(
    server: Publisher, files: Path, tmp_path: Path
) -> None:
    content = (files / "resnet18.pth").read_bytes()
    digits = sha256(content)[:8]
    server.files[f"/models/resnet18-{digits}.pth"] = content
    facts = f"url='https://download.pytorch.org/models/resnet18-{digits}.pth', sha256='{digits}'"
    own = plugin(tmp_path / "resnet.py", "pytorch", "resnet18", facts)
    command = [*readme("--model resnet18", photos(tmp_path / "photos", "train", "val")), *SMALL, "--plugin", str(own)]
    result = invoke(*command, "--results", tmp_path / "results")
    assert result.exit_code == 0, result.output
    done = records(tmp_path / "results")
    assert [(record.case.backend, record.status) for record in done] == [("pytorch", "ok"), ("keras3", "ok")]
    assert {record.case.checkpoint for record in done} == {"imagenet"}
    assert len({record.case.checkpoint_sha256 for record in done}) == 1
    assert all(record.load and record.load.complete for record in done)
    again = invoke(*command, "--backend", "pytorch", "--results", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert records(tmp_path / "again")[0].case.checkpoint_sha256 == done[0].case.checkpoint_sha256
    assert server.asked == [f"/models/resnet18-{digits}.pth"]


@needs_both
def test_the_readme_s_own_photos_on_a_mobilenet_end_with_0_in_both_frameworks_from_one_file(
    server: Publisher, files: Path, tmp_path: Path
) -> None:
    server.files[f"{KERAS_FOLDER}1.0_224.h5"] = (files / "mobilenet-v2-1.0.h5").read_bytes()
    command = [*readme("--validation-split", photos(tmp_path / "photos", "")), *SMALL]
    result = invoke(*command, "--results", tmp_path / "results")
    assert result.exit_code == 0, result.output
    done = records(tmp_path / "results")
    assert [(record.case.backend, record.status) for record in done] == [("pytorch", "ok"), ("keras3", "ok")]
    assert {record.case.checkpoint for record in done} == {"imagenet"}
    assert len({record.case.checkpoint_sha256 for record in done}) == 1
    assert all(record.load and record.load.complete for record in done)
    stored = read_checkpoint(find("mobilenet-v2").path)
    assert stored.meta.sha256 == done[0].case.checkpoint_sha256
    assert stored.meta.normalisation == NORMALISATIONS["minus-one-to-one"]
    assert stored.meta.unmapped == ()
    assert stored.arrays["classifier.1.weight"].shape == (1000, 1280)
    assert (len(stored.meta.classes), stored.meta.classes[2]) == (1000, "great white shark")
    assert server.asked == [f"{KERAS_FOLDER}1.0_224.h5"]


@needs_torch
def test_an_efficientnet_is_read_with_its_classifier_and_its_classes(
    server: Publisher, files: Path, tmp_path: Path
) -> None:
    content = (files / "efficientnet-b0.pth").read_bytes()
    server.files["/lukemelas/b0.pth"] = content
    facts = f"url='https://github.com/lukemelas/b0.pth', sha256='{sha256(content)}'"
    own = plugin(tmp_path / "b0.py", "pytorch", "efficientnet-b0", facts)
    stored = read_checkpoint(find("efficientnet-b0", read_catalogue([str(own)])).path)
    assert stored.arrays["_fc.weight"].shape == (1000, 1280)
    assert stored.meta.origin == f"https://github.com/lukemelas/b0.pth (SHA-256 {sha256(content)}, published)"
    assert stored.meta.normalisation == NORMALISATIONS["imagenet"]


def test_every_model_of_a_framework_has_one_publisher_and_it_is_the_same_in_every_backend() -> None:
    catalogue = read_catalogue()
    for backend in ("pytorch", "keras3"):
        for model in catalogue.backends[backend].models:
            found = catalogue.publisher(model, "imagenet")
            assert found is not None
            assert found[0] == ("keras3" if model.startswith("mobilenet") else "pytorch")
    assert catalogue.publisher("tiny-cnn", "imagenet") is None
    assert catalogue.published_names() == ("imagenet",)


def test_a_model_of_one_s_own_may_have_published_weights_which_are_fetched_and_imported_once(
    server: Publisher, tmp_path: Path
) -> None:
    catalogue = tiny(tmp_path, server)
    found = find("tiny-cnn", catalogue)
    stored = read_checkpoint(found.path)
    assert (found.name, stored.meta.classes, stored.meta.head) == ("imagenet", tuple("abcd"), "classifier.")
    digest = sha256(server.files["/colours/tiny.npz"])
    assert stored.meta.origin.startswith(
        f"https://tiny.example/colours/tiny.npz (SHA-256 {digest}, recorded at the first"
    )
    for name, array in tiny_arrays().items():
        np.testing.assert_array_equal(stored.arrays[name], array)
    assert find("tiny-cnn", catalogue) == found
    clear_cache(kinds=("checkpoints",))
    assert find("tiny-cnn", catalogue) == found
    assert server.asked == ["/colours/tiny.npz"]


def test_published_weights_may_have_any_name_and_an_unknown_one_gets_the_nearest(
    server: Publisher, tmp_path: Path
) -> None:
    tiny(tmp_path, server)
    own = tmp_path / "tiny.py"
    own.write_text(own.read_text().replace('published={"imagenet": ', 'published={"insects": '))
    catalogue = read_catalogue([str(own)])
    assert find("tiny-cnn", catalogue, "insects").name == "insects"
    with pytest.raises(Refused, match="did you mean insects"):
        find("tiny-cnn", catalogue, "insect")
    with pytest.raises(Declined, match="resnet18 has no published insects weights"):
        find("resnet18", catalogue, "insects")


def test_other_facts_about_published_weights_are_another_checkpoint(server: Publisher, tmp_path: Path) -> None:
    first = find("tiny-cnn", tiny(tmp_path, server))
    other = find("tiny-cnn", tiny(tmp_path, server, "normalisation=NORMALISATIONS['zero-to-one']"))
    assert other.path != first.path
    assert read_checkpoint(other.path).meta.normalisation == NORMALISATIONS["zero-to-one"]


def test_a_later_download_is_held_to_the_first_one_that_could_be_read(server: Publisher, tmp_path: Path) -> None:
    catalogue = tiny(tmp_path, server)
    sound, server.files["/colours/tiny.npz"] = server.files["/colours/tiny.npz"], b"<html>log in first</html>"
    with pytest.raises(Refused, match=r"tiny\.npz is not a readable \.npz archive"):
        find("tiny-cnn", catalogue)
    clear_cache()
    server.files["/colours/tiny.npz"] = sound
    find("tiny-cnn", catalogue)
    clear_cache()
    server.files["/colours/tiny.npz"] = sound + b"!"
    with pytest.raises(Refused, match=rf"not {sha256(sound)} \(recorded at the first download"):
        find("tiny-cnn", catalogue)


def test_a_classifier_with_other_classes_than_its_publisher_names_is_refused(server: Publisher, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"tiny\.npz has a classifier of 4 classes, but 2 are published"):
        find("tiny-cnn", tiny(tmp_path, server, classes=2))


@pytest.mark.parametrize(
    ("model", "address", "digest"),
    [
        ("resnet18", "https://download.pytorch.org/models/resnet18-f37072fd.pth", "SHA-256 f37072fd…"),
        (
            "efficientnet-b3",
            "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0/efficientnet-b3-5fb5a3c3.pth",
            "SHA-256 5fb5a3c3…",
        ),
        ("mobilenet-v2-0.35", f"https://storage.googleapis.com{KERAS_FOLDER}0.35_224.h5", "no digest is published"),
    ],
)
def test_without_a_network_a_line_names_address_digest_and_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str, address: str, digest: str
) -> None:
    monkeypatch.setenv(MIRROR, NOWHERE)
    with pytest.raises(Declined) as declined:
        find(model)
    said = str(declined.value)
    assert "Connection refused" in said
    place = re.search(rf"download {re.escape(address)} \({digest}\) and put it at (\S+)$", said)
    assert place is not None, said
    assert Path(place[1]).parent == tmp_path / "cache/downloads"


@needs_torch
@pytest.mark.skipif(not find_spec("keras"), reason="keras is not installed")
def test_a_file_that_was_put_at_its_place_needs_no_network(monkeypatch: pytest.MonkeyPatch, files: Path) -> None:
    monkeypatch.setenv(MIRROR, NOWHERE)
    with pytest.raises(Declined) as declined:
        find("mobilenet-v2-0.35")
    Path(str(declined.value).rpartition(" ")[2]).write_bytes((files / "mobilenet-v2-0.35.h5").read_bytes())
    assert read_checkpoint(find("mobilenet-v2-0.35").path).arrays["features.0.0.weight"].shape == (16, 3, 3, 3)


@needs_torch
@pytest.mark.skipif(not find_spec("keras") or not find_spec("jax"), reason="keras or jax is not installed")
def test_any_engine_of_keras_that_is_installed_reads_the_file(server: Publisher, files: Path, tmp_path: Path) -> None:
    server.files[f"{KERAS_FOLDER}0.35_224.h5"] = (files / "mobilenet-v2-0.35.h5").read_bytes()
    (tmp_path / "without.py").write_text("import sys\nsys.modules['tensorflow'] = None\n")
    found = find("mobilenet-v2-0.35", read_catalogue([str(tmp_path / "without.py")]))
    assert len(read_checkpoint(found.path).arrays) == 262


@pytest.mark.parametrize(
    ("model", "path", "missing", "reader"),
    [
        ("mobilenet-v2-0.35", f"{KERAS_FOLDER}0.35_224.h5", "keras", "keras3"),
        ("resnet34", "/models/resnet34.pth", "torch", "pytorch"),
    ],
)
def test_where_the_framework_that_reads_the_file_is_missing_a_line_names_it_address_digest_and_place(
    server: Publisher, tmp_path: Path, model: str, path: str, missing: str, reader: str
) -> None:
    server.files[path] = b"not read here"
    host = "https://storage.googleapis.com" if reader == "keras3" else "https://download.pytorch.org"
    facts = f"url='{host}{path}', sha256=''"
    own = plugin(tmp_path / "without.py", reader, model, facts)
    own.write_text(f"import sys\nsys.modules['{missing}'] = None\n{own.read_text()}")
    with pytest.raises(Declined) as declined:
        find(model, read_catalogue([str(own)]))
    said = str(declined.value)
    assert f"{model} are read by {reader}, which cannot run here: {missing} is not installed" in said
    assert f"from {host}{path} (SHA-256 {sha256(b'not read here')}, " in said
    assert f"the file is at {tmp_path}/cache/downloads/" in said


def test_a_case_without_network_is_skipped_with_that_line_and_ends_with_3(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(MIRROR, NOWHERE)
    command = readme("--validation-split", photos(tmp_path / "photos", ""))
    result = invoke(*command, *SMALL, "--results", tmp_path / "results")
    assert result.exit_code == 3
    skipped = records(tmp_path / "results")
    assert [record.status for record in skipped] == ["skipped", "skipped"]
    assert len({record.reason for record in skipped}) == 1
    assert f"download https://storage.googleapis.com{KERAS_FOLDER}1.0_224.h5" in skipped[0].reason


def test_a_published_file_of_another_digest_is_refused_and_not_kept(server: Publisher, tmp_path: Path) -> None:
    server.files["/models/resnet18-f37072fd.pth"] = b"another network"
    command = readme("--model resnet18", photos(tmp_path / "photos", "train", "val"))
    result = invoke(*command, *SMALL, "--results", tmp_path / "results")
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]
    assert f"the SHA-256 {sha256(b'another network')}, not f37072fd… (published) and was deleted" in line
    assert not [path for path in (tmp_path / "cache/downloads").iterdir() if path.suffix == ".pth"]
    assert not (tmp_path / "results").exists()


def test_a_file_of_another_digest_at_the_place_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, server: Publisher
) -> None:
    monkeypatch.setenv(MIRROR, NOWHERE)
    with pytest.raises(Declined) as declined:
        find("alexnet")
    place = Path(str(declined.value).rpartition(" ")[2])
    place.write_bytes(b"another network")
    with pytest.raises(Refused, match=rf"{place} has the SHA-256 .*, not 7be5be79… \(published\); remove the file"):
        find("alexnet")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"url": "https://x.example/a.pth", "sha256": "abc"}, "'abc' is not 8 to 64 lower-case hexadecimal digits"),
        ({"url": "https://x.example/a.pth", "sha256": "F37072FD"}, "is not 8 to 64 lower-case hexadecimal digits"),
        ({"url": "https://x.example/folder/"}, "has no file name"),
        ({"url": "https://x.example"}, "has no file name"),
    ],
)
def test_facts_that_cannot_be_right_are_an_error(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Published(**fields, normalisation=NORMALISATIONS["imagenet"])


def test_a_plugin_with_such_facts_is_refused_by_its_name(tmp_path: Path) -> None:
    own = plugin(tmp_path / "short.py", "reference", "tiny-cnn", "sha256='abc'")
    with pytest.raises(Refused, match=r"short\.py: .*'abc' is not 8 to 64"):
        read_catalogue([str(own)])
