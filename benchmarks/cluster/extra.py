"""The optional package Ray, which only `ray_pool` imports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import Declined


@contextmanager
def needs_ray(asked: str) -> Iterator[None]:
    """Raise `Declined` if the block imports Ray and it is not installed; `asked` is the command or option."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise Declined(f"{asked} needs Ray; run `pip install 'finetune-bench[ray]'`") from error
