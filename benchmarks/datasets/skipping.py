"""Files that are not used, and one sentence about all of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.datasets.layout.scan import ENDING, ENDINGS

_CLASSES, _KINDS = 12, 6
"""The largest numbers of classes, and of reasons per class, in the sentence."""


class Skipped(NamedTuple):
    """A file that is not used: its name, its class if any, and the reason; `kind` is a common word for many reasons."""

    name: str
    owner: str
    reason: str
    kind: str = ""


def skipped_note(skipped: Iterable[Skipped], classes: Sequence[str]) -> list[str]:
    """Return one sentence with the number and reasons per class, or nothing.

    >>> skipped_note([Skipped("a/1.gif", "a", "ending .gif"), Skipped("x.txt", "", "ending .txt")], ["a", "b"])[0][:72]
    '2 files skipped: a 1 (ending .gif), outside the classes 1 (ending .txt);'
    """
    owned: dict[str, list[str]] = defaultdict(list)
    for one in skipped:
        owned[one.owner].append(one.kind or one.reason)
    named = [name for name in (*classes, "") if name in owned]
    parts = [f"{name or 'outside the classes'} {len(owned[name])} ({kinds(owned[name])})" for name in named[:_CLASSES]]
    if more := named[_CLASSES:]:
        parts.append(f"{len(more)} more classes {sum(len(owned[name]) for name in more)}")
    total = sum(map(len, owned.values()))
    endings = any(kind.startswith(ENDING) for reasons in owned.values() for kind in reasons)
    read = f"; endings that are read: {' '.join(ENDINGS)}" if endings else ""
    return [f"{total} file{'s' * (total > 1)} skipped: {', '.join(parts)}{read}"] if total else []


def kinds(reasons: Iterable[str]) -> str:
    """Return the reasons with their numbers, the most frequent first.

    >>> kinds(["ending .gif", "hidden", "ending .gif"]), kinds(["hidden", "hidden"])
    ('2 ending .gif, 1 hidden', 'hidden')
    """
    counted = Counter(reasons).most_common()
    if len(counted) == 1:
        return counted[0][0]
    parts = [f"{count} {kind}" for kind, count in counted[:_KINDS]]
    rest = sum(count for _, count in counted[_KINDS:])
    return ", ".join([*parts, *([f"{rest} for other reasons"] if rest else [])])
