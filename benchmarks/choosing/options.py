"""Command-line options, made from the fields of `Selection`: a suite file and the options have the same settings."""

from __future__ import annotations

import types
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click
import msgspec

from benchmarks.choosing.configuration import say_taken
from benchmarks.choosing.selection import Selection
from benchmarks.choosing.sharding import SHARE
from harness.spec import SETTINGS
from results.storage.folder import RESULTS

F = TypeVar("F", bound=Callable[..., Any])

RUN, MEASURE, OUTPUT = "What to run", "How to measure", "Results and output"
"""Headings of `--help` that several commands use."""
POSITIVE = click.FloatRange(min=0, min_open=True)
FILE, FOLDER = click.Path(dir_okay=False, path_type=Path), click.Path(file_okay=False, path_type=Path)
SELECTION = {
    RUN: ("backend", "engine", "model", "scenario", "data", "validation_split", "validation_seed",
          "test_split", "splits", "checkpoint", "input_scaling", "seeds", "limit"),
    "How to compute": ("device", "precision", "layout", "compile", "compile_mode", "features", "fused", "fold_norms",
                       "keep_memory", "input", "decoder", "workers", "threads", "devices"),
    MEASURE: ("warmup_steps",),
}  # fmt: skip
"""The fields of `Selection` below each heading; all others are below "How to train"."""


def _quiet(context: click.Context, option: click.Parameter, value: bool) -> bool:
    """Return the value of the command's own option, or that of the program."""
    return value or bool(context.find_root().params.get("quiet"))


SHARED: Mapping[str, Mapping[str, Any]] = {
    "shard": {
        "group": RUN,
        "type": SHARE,
        "metavar": "K/N",
        "help": "part K of N of the plan; `merge` unites the parts",
    },
    "plugin": {"group": RUN, "multiple": True, "type": click.Path(), "help": "Python file with models or datasets"},
    "target-accuracy": {"type": click.FloatRange(0, 1), "help": "show the time to this validation accuracy"},
    "wide": {"is_flag": True, "help": "show every column of the table"},
    "explain": {"is_flag": True, "help": "name the rule of each note, such as V46; `rules V46` explains it"},
    "out": {"type": FILE, "help": "output file; default: the terminal"},
    "quiet": {"short": "-q", "is_flag": True, "help": "show no progress", "callback": _quiet},
    "results": {"type": FOLDER, "default": RESULTS, "help": "folder of results"},
}


class GroupedOption(click.Option):
    """An option with a heading in `--help`."""

    def __init__(self, *names: Any, group: str = "Options", **facts: Any) -> None:
        super().__init__(*names, **facts)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists its options below headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per group, in the order of their first options."""
        groups = defaultdict(list)
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (line := parameter.get_help_record(ctx)):
                groups[getattr(parameter, "group", "Options")].append(line)
        for group, lines in groups.items():
            with formatter.section(group):
                formatter.write_dl(lines)

    def invoke(self, ctx: click.Context) -> Any:
        """Print what is taken from a `pyproject.toml`, then run the command."""
        if ctx.obj is not None and not ctx.params.get("quiet"):
            say_taken(ctx, ctx.obj)
        return super().invoke(ctx)


def option(*names: str, group: str = "Options", **facts: Any) -> Callable[[F], F]:
    """Declare an option as `click.option` does, below a heading and with its default in the help."""
    shown = facts.get("default") is not None
    return click.option(*names, cls=GroupedOption, group=group, show_default=shown, **facts)


def options_of(table: Mapping[str, Mapping[str, Any]], group: str, *names: str) -> Callable[[F], F]:
    """Declare the named options of a table, in this order; `group` is the heading of those that name none."""

    def decorate(command: F) -> F:
        for name in reversed(names):
            facts = {"group": group, **table[name]}
            short = [facts.pop("short")] if "short" in facts else []
            command = option(*short, f"--{name}", **facts)(command)
        return command

    return decorate


def shared(*names: str) -> Callable[[F], F]:
    """Declare the named options of `SHARED`."""
    return options_of(SHARED, OUTPUT, *names)


results_or_run_option = option("--results", group=OUTPUT, **{**SHARED["results"], "type": click.Path(path_type=Path)})
"""`--results` for commands that also read the file of one run."""


def selection_options(*without: str) -> Callable[[F], F]:
    """Declare one option per field of `Selection`, except the named ones. Options not given are None or empty."""
    hints = get_type_hints(Selection, include_extras=True)

    def decorate(command: F) -> F:
        for field in reversed(msgspec.structs.fields(Selection)):
            if field.name not in without:
                command = _option(field.name, hints[field.name])(command)
        return command

    return decorate


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `Selection` that the user gave."""
    return {name: options[name] for name in Selection.__struct_fields__ if options.get(name) not in (None, ())}


def words(name: str, value: Any) -> list[str]:
    """Return the words of a command line that give a field of `Selection` this value.

    >>> words("keep_memory", False), words("model", ("resnet18", "alexnet"))
    (['--no-keep-memory'], ['--model', 'resnet18', '--model', 'alexnet'])
    """
    plain = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{plain}" if value else f"--no-{plain}"]
    return [word for one in (value if isinstance(value, tuple) else (value,)) for word in (f"--{plain}", str(one))]


def _option(name: str, hint: Any) -> Callable[[F], F]:
    text, hint = _description(name, hint)
    kind, several = _kind(hint)
    flag = f"--{name.replace('_', '-')}"
    group = next((group for group, names in SELECTION.items() if name in names), "How to train")
    if kind is bool:
        # Both forms, because a configuration file may have turned on what the command line turns off.
        flags = "/".join(words(name, True) + words(name, False))
        return option(flags, name, is_flag=True, default=None, group=group, help=text)
    if get_origin(kind) is Literal:
        return option(flag, name, type=click.Choice(get_args(kind)), multiple=several, group=group, help=text)
    return option(flag, name, type=kind, multiple=several, group=group, help=text)


def _description(name: str, hint: Any) -> tuple[str | None, Any]:
    if get_origin(hint) is Annotated:
        kind, meta = get_args(hint)
        return meta.description, kind
    return next(setting.text for setting in SETTINGS.values() if setting.option == name), hint


def _kind(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    if get_origin(hint) in (types.UnionType, Union):  # Literal[…] | None is the latter
        return next(arg for arg in get_args(hint) if arg is not type(None)), False
    return hint, False
