"""The embedded tasks are the same bytes everywhere, and the source has seen no target class."""

from __future__ import annotations

import ast
import hashlib
import inspect
from functools import cache

import numpy as np
import pytest

from benchmarks.datasets import embedded

TASKS = {"source": embedded.source, "target": embedded.target}
DIGESTS = {
    "source": {
        "train": "74088fe15869ad667da840246d7ca62e35f3fd9c3349905f8402738ef649199d",
        "val": "3b72313e25f56103c32fe98d2e28a55a6e92cb8aa8825fa6e599cff3c97caa42",
        "test": "fa2a6b544e90bd15c059b4111706a4ac6bfb9f4060c2f4f8ae2060e20210b90f",
    },
    "target": {
        "train": "21ff4e2cc88dfd9f4aecef5c1292aaca1f0e4f7cae13dcfb98f71d00a434f45f",
        "val": "7c1dba086400f5d80e9551a36d3ea66ac834de78d78d9d393e5e5fa7b6ecdb9d",
        "test": "72298905ad9cb6f50d9fdfb8a6febd533c61c6d45415202ef2aa4432a8507623",
    },
}


@cache
def task(name: str) -> dict[embedded.Split, tuple[embedded.Images, embedded.Labels]]:
    return TASKS[name]()


@pytest.mark.parametrize("name", TASKS)
def test_the_bytes_are_pinned(name: str) -> None:
    digests = {
        split: hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
        for split, (images, labels) in task(name).items()
    }
    assert digests == DIGESTS[name]


@pytest.mark.parametrize(
    ("name", "classes", "sizes"),
    [
        ("source", 40, {"train": 8000, "val": 200, "test": 200}),
        ("target", 8, {"train": 96, "val": 80, "test": 560}),
    ],
)
def test_splits_have_their_shape_and_equal_classes(name: str, classes: int, sizes: dict[str, int]) -> None:
    for split, (images, labels) in task(name).items():
        assert images.dtype == np.uint8
        assert images.shape == (sizes[split], 64, 64, 3)
        assert labels.dtype == np.int64
        assert np.bincount(labels).tolist() == [sizes[split] // classes] * classes


def test_no_image_occurs_twice_in_any_split_of_any_task() -> None:
    seen = [image.tobytes() for name in TASKS for images, _ in task(name).values() for image in images]
    assert len(set(seen)) == len(seen)


def test_source_and_target_share_no_recipe() -> None:
    source = {(recipe.shape, recipe.texture) for recipe in embedded.SOURCE}
    target = {(recipe.shape, recipe.texture) for recipe in embedded.TARGET}
    assert len(source) == len(embedded.SOURCE) == 40
    assert len(target) == len(embedded.TARGET) == 8
    assert not source & target
    assert {shape for shape, _ in target} <= {shape for shape, _ in source}
    assert {texture for _, texture in target} <= {texture for _, texture in source}


def test_class_names_are_unique_and_readable() -> None:
    names = [recipe.name for recipe in embedded.SOURCE + embedded.TARGET]
    assert len(set(names)) == 48
    assert "striped-triangle" in names


def test_neither_hue_nor_shape_nor_texture_alone_tells_the_target_classes_apart() -> None:
    for field in ("shape", "texture", "hue"):
        values = [getattr(recipe, field) for recipe in embedded.TARGET]
        assert all(values.count(value) == 2 for value in values), field


def test_an_image_depends_on_its_index_and_not_on_its_neighbours() -> None:
    recipe = embedded.TARGET[0]
    together = embedded.render(recipe, 7, 0, 120)
    assert np.array_equal(together, embedded.render(recipe, 7, 0, 120))
    assert np.array_equal(together[37:103], embedded.render(recipe, 7, 37, 66))
    assert embedded.render(recipe, 7, 0, 0).shape == (0, 64, 64, 3)


def test_another_seed_gives_other_images() -> None:
    recipe = embedded.TARGET[0]
    assert not np.array_equal(embedded.render(recipe, 0, 0, 1), embedded.render(recipe, 1, 0, 1))


@pytest.mark.parametrize("recipe", embedded.SOURCE + embedded.TARGET, ids=lambda recipe: recipe.name)
def test_every_class_draws_something_that_varies(recipe: embedded.ClassRecipe) -> None:
    images = embedded.render(recipe, 0, 0, 4)
    assert all(image.std() > 10 for image in images)


def test_no_float_is_written_in_the_generator() -> None:
    nodes = list(ast.walk(ast.parse(inspect.getsource(embedded))))
    assert not [node for node in nodes if isinstance(node, ast.Constant) and type(node.value) is float]
    assert not [node for node in nodes if isinstance(node, ast.Div)]
    assert not [node for node in nodes if isinstance(node, ast.Attribute) and node.attr == "random"]
