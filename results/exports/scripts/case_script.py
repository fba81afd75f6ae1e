"""The script of a case in its framework."""

from __future__ import annotations

from harness.errors import Declined
from harness.spec import Case
from results.exports.scripts import keras_script, torch_script
from results.exports.scripts.settings import Described, refuse_unsupported

_SCRIPTS = {"pytorch": torch_script.script, "keras3": keras_script.script}
_ENDINGS = {"pytorch": torch_script.ENDING, "keras3": keras_script.ENDING}


def case_script(described: Described) -> str:
    """Return the script, Python code with a final newline. Raise `Declined` for a case that it cannot reproduce."""
    refuse_unsupported(described.case)
    return _SCRIPTS[described.case.backend](described)


def weights_name(case: Case) -> str:
    """Return the name of the file of pretrained weights; empty if the case starts from random values.

    Raises `Declined` for a backend without scripts.
    """
    if case.backend not in _SCRIPTS:
        raise Declined(f"--to script: no script for the backend {case.backend}, only for {', '.join(_SCRIPTS)}")
    return f"{case.model}{_ENDINGS[case.backend]}" if case.scenario.start == "checkpoint" else ""
