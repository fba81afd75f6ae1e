"""Another value of any field of a case, so that tests take up a new setting unasked."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from harness.spec import SETTINGS, Augmentation, Scenario, Stage

OWN = Scenario(name="another", explanation="", stages=(Stage(epochs=3, head_lr=1.0, backbone_lr=1.0),))


def another(name: str) -> Any:
    """A value that is not the default of the field."""
    setting = SETTINGS[name]
    if get_origin(setting.type) is Literal:
        return next(word for word in reversed(get_args(setting.type)) if word != setting.default)
    kinds = {bool: setting.default is False, int: 77, int | None: 77, str: "another", str | None: "another"}
    return {Scenario: OWN, tuple[Augmentation, ...]: (Augmentation(name="flip"),), **kinds}[setting.type]
