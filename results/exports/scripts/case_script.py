"""The script of a case in its framework."""

from __future__ import annotations

from harness.errors import Declined
from harness.spec import Case
from results.exports.scripts import keras_script, torch_script
from results.exports.scripts.settings import Described, refuse_unsupported

_WRITERS = {"pytorch": torch_script, "keras3": keras_script}


def case_script(described: Described) -> str:
    """Return the script, Python code with a final newline. Raise `Declined` for a case that it cannot reproduce."""
    refuse_unsupported(described.case)
    return _writer(described.case).script(described)


def weights_name(case: Case) -> str:
    """Return the name of the file of pretrained weights; empty if the case starts from random values.

    Raises `Declined` for a backend without scripts.
    """
    ending = _writer(case).ENDING
    return f"{case.model}{ending}" if case.scenario.start == "checkpoint" else ""


def _writer(case: Case):  # type: ignore[no-untyped-def]
    if case.backend not in _WRITERS:
        raise Declined(f"--to script: no script for the backend {case.backend}, only for {', '.join(_WRITERS)}")
    return _WRITERS[case.backend]
