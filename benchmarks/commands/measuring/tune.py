"""`tune`: find the fastest settings of a case that provably train the same."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.configuration import command_line
from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import MEASURE, POSITIVE, GroupedCommand, given, option, selection_options, shared
from benchmarks.choosing.selection import Selection, expand
from benchmarks.comparing.comparison_run import finished
from benchmarks.running.progress import RunProgress
from benchmarks.tuning.document import TuneDocument, document
from benchmarks.tuning.tune import Tuning, lines
from harness import PROGRAM
from harness.errors import Refused
from harness.process.machine import describe_machine, environment
from results.storage.run_files import open_run


@click.command(cls=GroupedCommand)
@selection_options("seeds")
@option("--minutes", type=POSITIVE, default=10.0, group=MEASURE, help="time limit; the proof may exceed it")
@json_option(lambda: TuneDocument)
@shared("plugin", "quiet", "results")
def command(minutes: float, json_: bool, results: Path, **options: Any) -> None:
    """Find the fastest settings of a case that provably train the same.

    It measures memory layout, compilation, the fused optimizer, folded batch norms, kept memory and kept features
    against the plain settings, each alone and then those together that are faster: in turns of two live processes, or
    in whole runs where features are kept.
    The fastest is recommended only with a certificate. Exits with 1 if nothing is faster and proved.
    """
    catalogue = read_catalogue(options["plugin"])
    cases = expand(Selection(**{"scenario": ("full",), **given(options)}), catalogue)
    if len(cases) != 1:
        listed = ", ".join(dict.fromkeys(one.case.label for one in cases))
        raise Refused(
            f"tune takes one case, not {len(cases)} ({listed}); choose it with --backend, --model, --scenario"
        )
    machine = describe_machine()
    with (
        RunProgress(Console(stderr=True), quiet=options["quiet"]) as progress,
        open_run(results, command=command_line(), planned=(), machine=machine, environment=environment()) as writer,
    ):
        progress.expect(1)
        with finished(writer):
            tuned = Tuning(cases[0], catalogue, writer, machine, minutes, progress.on_event).run()
    if json_:
        print_json(document(tuned, _command()))
    else:
        click.echo("\n".join(lines(tuned, _command())))
    sys.exit(0 if tuned.best else 1)


def _command() -> str:
    """Return the `run` command with the options of this one."""
    given_words = command_line()
    words = iter(given_words[given_words.index("tune") + 1 :])
    kept = []
    for word in words:
        if word == "--minutes":
            next(words, None)
        elif not word.startswith(("--minutes=", "--json", "--quiet", "-q")):
            kept.append(word)
    return f"{PROGRAM} run {shlex.join(kept)}"
