"""Probe the real backends on this machine: precision (V32), busy cores (V37), and denormals (V38)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

import msgspec
from msgspec.structs import replace

from benchmarks.choosing.catalogue import read_catalogue
from harness import PREFIX
from harness.errors import Declined, Refused
from harness.plugins import find_model
from harness.process.ask import ask
from harness.process.launch import Event
from harness.running.numerics import CoreUse, Numerics, busy
from harness.spec import Case, Scenario
from results.rules.record_rules import BITS
from results.rules.time_rules import CORES

CLASSES = 2


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of a backend in fp32; `switched` has those for changed settings.

    `bound` is its CPU use with one thread and one core, as in a measured worker; `free` is that without a core limit.
    """

    backend: str
    declined: str = ""
    numerics: Numerics | None = None
    switched: dict[str, Numerics] = {}
    bound: CoreUse | None = None
    free: CoreUse | None = None


def probe(backend: str, engine: str | None, model: str) -> Probed:
    """Probe one backend, in a worker."""
    module, offered = find_model(backend, model, ())
    case = Case(
        backend=backend,
        engine=engine,
        model=model,
        scenario=Scenario(name="none", explanation="", stages=()),
        dataset="",
        dataset_sha256="",
        image_size=max(32, offered.minimum_size),
    )
    if reason := module.decline(case):
        return Probed(backend=case.backend_name, declined=reason)
    session = module.open_session(case, offered, CLASSES)
    probes = importlib.import_module(f"{PREFIX}backends.{backend}.probing.numerics")
    return Probed(
        backend=case.backend_name,
        numerics=probes.numerics(session),
        switched=probes.both_ways(session),
        bound=busy(probes.product(session)),
    )


def probe_all(on_event: Callable[[Event], None]) -> list[Probed]:
    """Probe every backend and engine except the reference, once with one core and once with all cores."""
    found = []
    for backend, facts in read_catalogue().backends.items():
        if backend == "reference":
            continue
        smallest = min(facts.models, key=lambda name: facts.models[name].gmacs)
        for engine in facts.engines or (None,):
            on_event({"trying": f"the arithmetic of {backend} {engine or ''}".rstrip()})
            bound, free = (_ask(backend, engine, smallest, cores) for cores in (1, None))
            found.append(replace(bound, free=free.bound))
    return found


def _ask(backend: str, engine: str | None, model: str, cores: int | None) -> Probed:
    arguments = {"backend": backend, "engine": engine, "model": model}
    try:
        return ask(probe, arguments, Probed, cores=cores, engine=engine, timeout_s=300)
    except (Declined, Refused) as error:
        return Probed(backend=backend if engine is None else f"{backend}-{engine}", declined=str(error))


def faults(probed: Probed) -> list[str]:
    """Return a sentence with the rule's id for each difference from the declaration."""
    if probed.numerics is None:
        return []
    low, high = BITS["fp32"]
    strict = {name: numerics for name, numerics in probed.switched.items() if "TF32 off" in name}
    found = [
        f"{what} keeps {bits:.0f} bits of mantissa {where} (V32)"
        for where, numerics in {"with the default settings": probed.numerics, **strict}.items()
        for what, bits in (("a product", numerics.product_bits), ("a convolution", numerics.convolution_bits))
        if not low <= bits <= high
    ]
    if probed.bound and probed.bound.cores > CORES:
        found.append(f"{probed.bound.cores:.2f} cores were busy with one thread (V37)")
    return found


def described(several: list[Probed]) -> Iterator[str]:
    """Yield the lines about the backends, with every difference from their declaration."""
    yield "Precision of the backends in fp32, and busy cores with one thread:"
    for probed in several:
        if probed.numerics is None:
            yield f"--  {probed.backend}: {probed.declined}"
            continue
        wrong = faults(probed)
        yield f"{'NO ' if wrong else 'ok '} {probed.backend}: {_text(probed.numerics)}"
        for where, one in (("bound to a core", probed.bound), ("on all cores", probed.free)):
            if one is not None:
                yield f"      one thread, {where}: {one.cores:.2f} cores and {one.threads:.1f} threads busy (V37)"
        yield from (f"      {name}: {_text(numerics)}" for name, numerics in probed.switched.items())
        yield from (f"      {one}" for one in wrong)


def _text(found: Numerics) -> str:
    flushed = {True: "flushed", False: "kept", None: "not probed"}[found.flushes_denormals]
    bits = f"product {found.product_bits:.1f}, convolution {found.convolution_bits:.1f} bits of mantissa (V32)"
    return f"{bits}, denormals {flushed} (V38)"
