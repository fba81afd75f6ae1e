"""`certify`: prove that two backends, or two settings of one, do the same work, level by level."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from benchmarks.choosing.catalogue import Catalogue, read_catalogue
from benchmarks.choosing.configuration import command_line
from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import MEASURE, RUN, GroupedCommand, given, option, selection_options, shared
from benchmarks.choosing.scenarios import SCENARIOS
from benchmarks.choosing.selection import SelectedCase, Selection, expand
from benchmarks.choosing.sharding import Item, Share, identity, take
from benchmarks.comparing.prepare import label_of
from benchmarks.comparing.sides import read_value
from benchmarks.preparing.certify import LONG_SIZES, Request, certify, prepare, written
from benchmarks.preparing.plan import without_fixed_part
from benchmarks.running.forecast import say_if_long
from benchmarks.running.progress import RunProgress
from benchmarks.running.terminal import aligned
from harness.certifying.answers import StandInCost
from harness.errors import Refused, each_once, unknown
from harness.process.machine import describe_machine, environment
from harness.spec import SETTINGS
from results.certificates.certificate import Certificate, place, read_certificate, read_certificates, write_certificate
from results.storage.rows import Shard
from results.storage.run_files import open_run

CERTIFIED = ("full", "freeze-conv", "two-stage")
"""The default scenarios of a certificate."""
FIXED = ("backend", "model", "seeds", "epochs", "data", "limit", "native_defaults", "optimizer_rule", "dropout")
"""Settings that a certificate fixes, so that there is no option."""
LEVELS = ("P0", "P1", "P2", "P3", "P4")


class CertifyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The level reached, of all scenarios and of each; -1 is below P0. `file` is the stored certificate."""

    level: int
    levels: dict[str, int]
    file: str
    certificate: Certificate


@click.command(cls=GroupedCommand)
@click.argument("model", help="model to certify; see `list models`")
@option("--backends", nargs=2, group=RUN, help="two backends, such as pytorch keras3-jax")
@option("--backend", group=RUN, help="one backend, to prove that the settings of --set change nothing")
@option("--set", "settings", multiple=True, group=RUN, help="SETTING=VALUE of the second arm, such as features=kept")
@selection_options(*FIXED)
@option("--level", type=click.Choice(LEVELS), default="P3", group=MEASURE, help="exit with 1 below this level")
@option("--long", is_flag=True, group=MEASURE, help="every scenario, and also images of 224 and 75 px")
@option("--no-cache", is_flag=True, group=MEASURE, help="make the certificate again if it exists")
@json_option(lambda: (CertifyDocument, None))
@shared("shard", "plugin", "quiet", "results")
def command(
    model: str,
    backends: tuple[str, str] | None,
    backend: str | None,
    settings: tuple[str, ...],
    level: str,
    long: bool,
    no_cache: bool,
    json_: bool,
    results: Path,
    **options: Any,
) -> None:
    """Prove that two backends, or two settings of one, do the same work.

    It writes a certificate; a table prints a ratio of two backends only with one. Levels: P0, same architecture; P1,
    same outputs; P2, same gradients; P3, same training; P4, same conventions. The last line is the level reached.
    Without --checkpoint both sides start from random values.
    """
    if (backends is None) == (backend is None) or (backend is None) != (not settings):
        raise Refused("give either two --backends, or one --backend with --set SETTING=VALUE")
    catalogue = read_catalogue(options["plugin"])
    changed = read_accelerations(settings)
    whole = _request(model, backends or (str(backend),) * 2, long, given(options), changed, catalogue)
    request, shard = _part(whole, options["shard"])
    if request is None:  # more parts than scenarios
        with _stored(results, shard):
            if json_:
                print_json(None)
            return
    with RunProgress(Console(stderr=True), quiet=options["quiet"]) as progress, _stored(results, shard):
        prepared = prepare(request, catalogue, progress.on_event)
        path = place(results, model, prepared.key)
        certificate = None if no_cache else _cached(path)
        if certificate is None:
            if not options["quiet"]:
                announce(request, results)
            certificate = certify(request, prepared, catalogue, progress.on_event)
            write_certificate(results, certificate, prepared.key)
    if json_:
        levels: dict[str, int] = {scenario: certificate.level(scenario) for scenario in certificate.scenarios}
        print_json(CertifyDocument(level=certificate.level(), levels=levels, file=str(path), certificate=certificate))
    else:
        _print(certificate, path)
    sys.exit(0 if certificate.level() >= LEVELS.index(level) else 1)


def _part(whole: Request, share: Share | None) -> tuple[Request | None, Shard | None]:
    """Return the request for one part of the scenarios, or None if this part has none."""
    items = [
        Item(
            value=(one, other),
            label=label_of(one.case, other.case),
            seconds=float(len(one.case.scenario.stages)),
            identity=(whole.sizes, identity(one, threads=False), identity(other, threads=False)),
            together=place,
        )
        for place, (one, other) in enumerate(zip(*whole.arms, strict=True))
    ]
    pairs, shard = take(share, items, "scenarios")
    arms = [one for one, _ in pairs], [other for _, other in pairs]
    return whole._replace(arms=arms) if pairs else None, shard


@contextmanager
def _stored(results: Path, shard: Shard | None) -> Iterator[None]:
    """Store a run without rows that ends when the block ends: it says that this part of the plan is done."""
    if shard is None:
        yield
        return
    facts: dict[str, Any] = {"machine": describe_machine(), "environment": environment(), "shard": shard}
    with open_run(results, command=command_line(), planned=(), **facts) as writer:
        yield
        writer.finish()


def read_accelerations(texts: Sequence[str]) -> dict[str, Any]:
    """Return the settings of `--set SETTING=VALUE[,SETTING=VALUE…]`, as fields of `Selection`. Raises `Refused`."""
    found: dict[str, Any] = {}
    given = ((text.partition("=")[0], text) for text in ",".join(texts).split(",") if texts)
    for name, text in each_once("--set", given).items():
        found |= read_value(text, name, text.partition("=")[2])
        setting = SETTINGS.get(name)
        if setting is None or not setting.provable:
            able = [one.name for one in SETTINGS.values() if one.provable]
            changes = "changes the numbers" if setting and setting.exactness else "changes the training"
            raise Refused(f"--set {text}: {name} {changes}, so there is no proof; it can be {', '.join(able)}")
    return found


def _request(
    model: str,
    names: tuple[str, str],
    long: bool,
    chosen: dict[str, Any],
    changed: dict[str, Any],
    catalogue: Catalogue,
) -> Request:
    if not catalogue.offering(model):
        raise Refused(
            unknown("model", model, sorted({m for facts in catalogue.backends.values() for m in facts.models}))
        )
    engines = chosen.pop("engine", ())
    scenarios = chosen.pop("scenario", tuple(SCENARIOS) if long else CERTIFIED)
    one, other = (
        _cases(model, name, engines, scenarios, {**chosen, **more}, catalogue)
        for name, more in zip(names, ({}, changed), strict=True)
    )
    if changed:  # without those scenarios in which the setting cannot be used
        reasons = [unfit.reason if (unfit := without_fixed_part(side.case)) else "" for side in other]
        if all(reasons):
            raise Refused(reasons[0])
        one, other = ([side for side, why in zip(sides, reasons, strict=True) if not why] for sides in (one, other))
        if not Request((one, other), (), with_checkpoint=False).accelerated:
            raise Refused(f"--set: {names[0]} has this value of {', '.join(changed)} anyway; give another one")
    size = one[0].case.image_size
    sizes = (size, *(side for side in LONG_SIZES if side != size)) if long else (size,)
    return Request((one, other), sizes, "checkpoint" in chosen)


def _cases(
    model: str,
    name: str,
    engines: tuple[str, ...],
    scenarios: tuple[str, ...],
    chosen: dict[str, Any],
    catalogue: Catalogue,
) -> list[SelectedCase]:
    backend, _, engine = name.partition("-") if name not in catalogue.backends else (name, "", "")
    if backend not in catalogue.backends:
        raise Refused(unknown("backend", name, catalogue.backends))
    if model not in catalogue.backends[backend].models:
        raise Refused(f"{backend} does not have {model}; it is in {', '.join(catalogue.offering(model))}")
    engines = (engine,) if engine else tuple(e for e in engines if e in catalogue.backends[backend].engines)
    wanted = {"recipe": "embedded", **chosen, "backend": (backend,), "engine": engines, "model": (model,)}
    cases = expand(Selection(**wanted, scenario=scenarios), catalogue)
    if len(cases) != len(scenarios):
        raise Refused("a certificate has one precision, layout, head and engine; give each option once")
    return cases


def announce(request: Request, results: Path) -> None:
    """Print the expected time on stderr if an earlier certificate of the same model and scenarios took long."""
    one, other = (cases[0].case for cases in request.arms)
    wanted = (one.model, {one.backend_name, other.backend_name}, {scenario.name for scenario in request.scenarios})
    for made in read_certificates(results).all:
        if (made.model, {arm.backend for arm in made.arms}, {*made.scenarios}) == wanted:
            say_if_long(made.seconds, made.seconds, "--scenario chooses fewer scenarios")
            return


def _cached(path: Path) -> Certificate | None:
    try:
        return read_certificate(path) if path.exists() else None
    except ValueError as error:
        click.echo(f"! {error}", err=True)
        return None


def _print(certificate: Certificate, path: Path) -> None:
    one, other = certificate.arms
    start = certificate.checkpoint or "random values"
    second = written(certificate.accelerated) or other.backend
    click.echo(f"{certificate.model}, {one.backend} against {second}, {certificate.precision}, from {start}")
    rows = []
    for check in certificate.checks:
        where = f" ({check.where})" if check.where else ""
        name = f"{check.scenario}: " if check.scenario else ""
        what = f"{name}{check.what}: {check.worst:.2g} of {check.limit:.2g}{where}"
        rows.append(("ok" if check.passed else "NO", f"P{check.level}", check.rule, what))
        if check.note:
            rows.append(("", "", "", check.note))
    click.echo(aligned(rows))
    for arm in certificate.arms:
        for original, stand_in in arm.stand_ins.items():
            click.echo(f"{arm.backend}: {stand_in} replaces {original}")
        for original, stand_in in arm.stand_ins_in_float64.items():
            click.echo(f"{arm.backend}: {stand_in} replaces {original} in float64, which is never timed")
        if arm.cost:
            click.echo(_cost(arm.backend, arm.cost))
    for scenario in certificate.scenarios:
        click.echo(f"{scenario}: P{certificate.level(scenario)}")
    click.echo(str(path))
    level = certificate.level()
    click.echo(f"P{level}" if level >= 0 else "below P0")


def _cost(backend: str, cost: StandInCost) -> str:
    times = f"{1000 * cost.stand_ins_s:.1f} and {1000 * cost.own_s:.1f} ms"
    what = f"a step of {cost.scenario} takes {cost.ratio:.2f} × the time of the framework's layers and optimizers"
    return f"{backend}: with these replacements {what} ({times})"
