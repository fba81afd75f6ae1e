from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.choosing.catalogue import Catalogue, read_catalogue
from benchmarks.datasets.cache import ENVIRONMENT
from benchmarks.preparing.checkpoints import FoundCheckpoint, find_checkpoint, parse_normalisation
from harness.data.checkpoint import NORMALISATIONS, read_checkpoint, read_meta
from harness.errors import Declined, Refused
from tests.benchmarks.commanding import EXAMPLES
from tests.harness.cases import tiny_arrays, write_tiny


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_catalogue()


def find(
    source: Path | str, catalogue: Catalogue, normalise: str | None = None, model: str = "tiny-cnn"
) -> FoundCheckpoint:
    def no_source() -> tuple[str, str]:
        raise AssertionError("nobody asked for the embedded task")

    return find_checkpoint(str(source), model, normalise, catalogue, no_source, lambda event: None)


def test_a_neutral_file_is_taken_where_it_lies(catalogue: Catalogue, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "mine.safetensors")
    assert find(path, catalogue) == FoundCheckpoint(path, read_meta(path).sha256, "mine.safetensors")


def test_a_neutral_file_of_another_model_is_refused_with_both_names(catalogue: Catalogue, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "other.safetensors", model="resnet18")
    with pytest.raises(Refused, match=r"other\.safetensors is a checkpoint of resnet18, not of tiny-cnn"):
        find(path, catalogue)


def test_a_changed_network_of_a_plugin_may_take_what_fits_of_a_known_one(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.safetensors")
    with_plugin = read_catalogue([str(EXAMPLES / "model.py")])
    assert find(path, with_plugin, model="two-blocks").path == path


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_neutral_file_is_refused_as_such(catalogue: Catalogue, tmp_path: Path, keep: int) -> None:
    path = write_tiny(tmp_path / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(Refused, match=r"cut\.safetensors is not a readable safetensors file"):
        find(path, catalogue)


def test_an_edited_neutral_file_is_refused_before_anything_runs(catalogue: Catalogue, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "edited.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(Refused, match=r"edited\.safetensors was changed after it was written \(its SHA-256 differs\)"):
        find(path, catalogue)


def test_nan_weights_are_refused_in_a_neutral_file_and_at_import(catalogue: Catalogue, tmp_path: Path) -> None:
    arrays = tiny_arrays()
    arrays["features.2.1.running_var"][3] = np.nan
    neutral = write_tiny(tmp_path / "nan.safetensors", arrays)
    np.savez(tmp_path / "nan.npz", **arrays)
    for path, normalise in ((neutral, None), (tmp_path / "nan.npz", "imagenet")):
        with pytest.raises(Refused, match=r"features\.2\.1\.running_var has values that are not finite"):
            find(path, catalogue, normalise)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 broken"])
def test_what_is_no_archive_of_arrays_is_refused(catalogue: Catalogue, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(Refused, match=r"bad\.npz is not a readable \.npz archive"):
        find(tmp_path / "bad.npz", catalogue, "imagenet")


class _Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.path),))

    def __init__(self, path: Path) -> None:
        self.path = str(path)


def test_a_pickle_inside_an_archive_is_refused_and_not_run(catalogue: Catalogue, tmp_path: Path) -> None:
    trap = np.array([_Trap(tmp_path / "sprung")], dtype=object)
    np.savez(tmp_path / "trap.npz", allow_pickle=True, **{"features.0.0.weight": trap})
    with pytest.raises(Refused, match=r"trap\.npz is not a readable \.npz archive of plain arrays"):
        find(tmp_path / "trap.npz", catalogue, "imagenet")
    assert not (tmp_path / "sprung").exists()


def test_a_file_of_unknown_format_is_refused_with_those_there_are(catalogue: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "weights.xyz").write_bytes(b"neither content nor name says it")
    with pytest.raises(Refused, match=r"weights\.xyz: unknown checkpoint format; known formats: .*\.npz"):
        find(tmp_path / "weights.xyz", catalogue)


@pytest.mark.parametrize(
    ("name", "said"), [("weights.onnx", "is an ONNX graph"), ("saved", "is a TensorFlow SavedModel; load it with")]
)
def test_a_foreign_format_is_refused_with_what_it_is(
    catalogue: Catalogue, tmp_path: Path, name: str, said: str
) -> None:
    if name == "saved":
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    else:
        (tmp_path / name).touch()
    with pytest.raises(Refused, match=f"{name} {said}"):
        find(tmp_path / name, catalogue, "imagenet")


@pytest.mark.parametrize("name", ["BARE.NPZ", "bare", "bare.ckpt", "bare.pth"])
def test_a_files_content_decides_who_reads_it(catalogue: Catalogue, tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        np.savez(file, **tiny_arrays())
    assert read_checkpoint(find(tmp_path / name, catalogue, "imagenet").path).arrays.keys() == (tiny_arrays().keys())


@pytest.mark.parametrize("name", ["mine", "mine.SAFETENSORS", "mine.ckpt"])
def test_a_neutral_file_of_any_name_is_one(catalogue: Catalogue, tmp_path: Path, name: str) -> None:
    path = write_tiny(tmp_path / "x.safetensors").rename(tmp_path / name)
    assert find(path, catalogue) == FoundCheckpoint(path, read_meta(path).sha256, name)


def test_what_an_import_chose_goes_with_the_checkpoint(catalogue: Catalogue, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    models = pytest.importorskip("torchvision").models
    pytest.importorskip("efficientnet_pytorch")
    states = {key: models.mobilenet_v2(width_mult=0.35, num_classes=2).state_dict() for key in ("model", "model_ema")}
    torch.save({"epoch": 3, **states}, tmp_path / "both.ckpt")
    found = find(tmp_path / "both.ckpt", catalogue, "imagenet", model="mobilenet-v2-0.35")
    stored = read_checkpoint(found.path)
    np.testing.assert_array_equal(stored.arrays["features.0.0.weight"], states["model"]["features.0.0.weight"].numpy())
    taken, padding = stored.meta.notes
    assert taken == "the weights in 'model' were loaded, not those in 'model_ema'"
    assert padding.startswith("mobilenet-v2-0.35 pads as TensorFlow does")


def test_a_format_of_a_backend_without_the_model_is_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    save_file(tiny_arrays(), tmp_path / "bare.safetensors")
    with pytest.raises(Refused, match=r"pytorch reads \.safetensors files but has no model tiny-cnn"):
        find(tmp_path / "bare.safetensors", catalogue, "imagenet")


def test_a_bare_file_must_say_how_its_inputs_are_scaled(catalogue: Catalogue, tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", **tiny_arrays())
    with pytest.raises(Refused, match=r"add --input-scaling imagenet\|minus-one-to-one\|zero-to-one"):
        find(tmp_path / "bare.npz", catalogue)
    with pytest.raises(Refused, match="did you mean imagenet"):
        find(tmp_path / "bare.npz", catalogue, "imagenett")


def test_an_import_keeps_every_array_and_says_where_they_are_from(catalogue: Catalogue, tmp_path: Path) -> None:
    arrays = {**tiny_arrays(), "somebody.else": np.zeros(2, np.float32)}
    np.savez(tmp_path / "bare.npz", **arrays)
    found = find(tmp_path / "bare.npz", catalogue, "0.1,0.2,0.3/0.4,0.5,0.6")
    stored = read_checkpoint(found.path)
    assert stored.meta.normalisation.std == (0.4, 0.5, 0.6)
    assert (stored.meta.model, stored.meta.head) == ("tiny-cnn", "classifier.")
    assert stored.meta.origin.startswith("bare.npz (SHA-256 ")
    assert stored.meta.unmapped == ("somebody.else",)
    assert found.name == "bare.npz"
    assert stored.arrays.keys() == tiny_arrays().keys()
    for name, array in tiny_arrays().items():
        np.testing.assert_array_equal(stored.arrays[name], array)


def test_an_import_is_made_once_for_a_file_and_a_normalisation(catalogue: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "bare.npz"
    np.savez(path, **tiny_arrays())
    first = find(path, catalogue, "imagenet")
    inode = first.path.stat().st_ino
    assert find(path, catalogue, "imagenet") == first
    assert first.path.stat().st_ino == inode
    assert find(path, catalogue, "zero-to-one").path != first.path
    np.savez(path, **tiny_arrays(seed=8))
    assert find(path, catalogue, "imagenet").path != first.path


def test_a_file_that_is_not_there_is_refused_and_a_name_gets_the_nearest(catalogue: Catalogue) -> None:
    with pytest.raises(Refused, match=r"--checkpoint nowhere/weights\.npz: no such file"):
        find("nowhere/weights.npz", catalogue)
    with pytest.raises(Refused, match="did you mean imagenet"):
        find("imagenett", catalogue)


def test_named_weights_that_nobody_published_are_declined(catalogue: Catalogue) -> None:
    with pytest.raises(
        Declined, match="tiny-cnn has no published imagenet weights; use --checkpoint FILE or --checkpoint embedded"
    ):
        find("imagenet", catalogue)


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_every_named_normalisation_is_known(name: str) -> None:
    assert parse_normalisation(name) == NORMALISATIONS[name]


@pytest.mark.parametrize(
    "text", ["imagent", "1,2,3", "1,2/3,4", "a,b,c/d,e,f", "", "0.5,0.5,0.5/0.5,0,0.5", "1.2.3,0,0/1,1,1"]
)
def test_other_normalisations_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="normalisation"):
        parse_normalisation(text)
