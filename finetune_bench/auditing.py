"""The freeze audit of a torch or Keras model."""

from __future__ import annotations

from typing import Any, Unpack

from harness.auditing.auditor import AuditOptions, Auditor


def audit(model: Any, **options: Unpack[AuditOptions]) -> Auditor:
    """Return the freeze audit of a torch module or a Keras model, for a `with` block around its training code.

    `frozen` is a predicate on names, or an iterable of modules or layers and prefixes of names; `norm` is as in a
    `Stage`. The model is called with `batch` to test whether the frozen part is random. `classes` is the required width
    of the output. The optimizer of a torch module is found when it steps, that of a Keras model is `model.optimizer`;
    `optimizer` names another one. Raises TypeError for an object of another kind, ValueError if `frozen` matches no
    tensor.
    """
    packages = {base.__module__.partition(".")[0] for base in type(model).__mro__}
    if "keras" in packages:  # with the engine torch, a Keras model is a torch module too
        from backends.keras3 import audit as start
    elif "torch" in packages:
        from backends.pytorch import audit as start
    else:
        raise TypeError(f"{type(model).__name__} is neither a torch module nor a Keras model")
    return start(model, **options)
