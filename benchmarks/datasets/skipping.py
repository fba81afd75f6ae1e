"""Files that are not used: which, of which class, why, and one sentence about all of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.datasets.layout.scan import ENDING, ENDINGS

_CLASSES, _KINDS = 12, 6
"""As many classes, and reasons per class, as the sentence names."""


class Skipped(NamedTuple):
    """A file that is not used: its name, its class if it has one, and why; `kind` sums up reasons that differ."""

    name: str
    owner: str
    reason: str
    kind: str = ""


def skipped_note(skipped: Iterable[Skipped], classes: Sequence[str]) -> list[str]:
    """One sentence with number and reason per class, or none.

    >>> skipped_note([Skipped("a/1.gif", "a", "ending .gif"), Skipped("x.txt", "", "ending .txt")], ["a", "b"])[0][:72]
    '2 files skipped: a 1 (ending .gif), outside the classes 1 (ending .txt);'
    """
    owned: dict[str, list[str]] = defaultdict(list)
    for one in skipped:
        owned[one.owner].append(one.kind or one.reason)
    named = [name for name in (*classes, "") if name in owned]
    said = [f"{name or 'outside the classes'} {len(owned[name])} ({kinds(owned[name])})" for name in named[:_CLASSES]]
    if more := named[_CLASSES:]:
        said.append(f"{len(more)} more classes {sum(len(owned[name]) for name in more)}")
    total = sum(map(len, owned.values()))
    endings = any(kind.startswith(ENDING) for reasons in owned.values() for kind in reasons)
    read = f"; endings that are read: {' '.join(ENDINGS)}" if endings else ""
    return [f"{total} file{'s' * (total > 1)} skipped: {', '.join(said)}{read}"] if total else []


def kinds(reasons: Iterable[str]) -> str:
    """Reasons with their numbers, the most frequent first.

    >>> kinds(["ending .gif", "hidden", "ending .gif"]), kinds(["hidden", "hidden"])
    ('2 ending .gif, 1 hidden', 'hidden')
    """
    counted = Counter(reasons).most_common()
    if len(counted) == 1:
        return counted[0][0]
    said = [f"{count} {kind}" for kind, count in counted[:_KINDS]]
    rest = sum(count for _, count in counted[_KINDS:])
    return ", ".join([*said, *([f"{rest} for other reasons"] if rest else [])])
