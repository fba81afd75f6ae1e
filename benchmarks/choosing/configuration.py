"""Defaults of options from `[tool.finetune-bench]` of a `pyproject.toml`."""

from __future__ import annotations

import itertools
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from harness.errors import Refused, unknown

FILE, TABLE = "pyproject.toml", "finetune-bench"
WORDS = "words"
"""The key of the words of the command line in the `meta` of click's context."""


class Configuration(NamedTuple):
    """The table `[tool.finetune-bench]` and its file: tables of commands, and values for every command."""

    file: Path
    values: Mapping[str, Any]


def find_configuration(folder: Path) -> Configuration | None:
    """Return the table of the nearest `pyproject.toml` that has one, in this folder or above. Raises `Refused`."""
    for file in (above / FILE for above in (folder, *folder.parents)):
        if not file.is_file():
            continue
        try:
            tool = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
        except (OSError, ValueError) as error:
            raise Refused(f"{file} cannot be read ({error}); correct it, or use --no-config") from error
        if isinstance(tool, dict) and TABLE in tool:
            if not isinstance(tool[TABLE], dict):
                raise Refused(f"{file}: tool.{TABLE} must be a table, [tool.{TABLE}]")
            return Configuration(file, tool[TABLE])
    return None


def defaults(
    found: Configuration, name: str, names: Iterable[str], command: Callable[[str], click.Command]
) -> dict[str, Any]:
    """Return the defaults of one command by the names of its parameters, for click's `default_map`.

    `command` returns the command of a name. A command's own table is used before the values for every command. Raises
    `Refused` for an unknown table or option and for a value of a wrong type, in any table.
    """
    known, chosen = list(names), dict[str, Any]()
    for key, value in found.values.items():
        if key in known and not isinstance(value, dict):
            raise Refused(f"{found.file}: [tool.{TABLE}]: {key} must be a table, [tool.{TABLE}.{key}]")
        if not isinstance(value, dict):
            chosen |= _for_every_command(found.file, key, value, [name, *known], command)
        elif key not in known:
            raise Refused(f"{found.file}: [tool.{TABLE}.{key}]: {unknown('command', key, known)}")
    for key, table in found.values.items():
        if isinstance(table, dict):
            where = f"{found.file}: [tool.{TABLE}.{key}]"
            own = dict(_value(where, found.file.parent, command(key), *item) for item in table.items())
            chosen |= own if key == name else {}
    return chosen


def _for_every_command(
    file: Path, key: str, value: Any, names: Iterable[str], command: Callable[[str], click.Command]
) -> dict[str, Any]:
    """Return the default for the first command of `names`, or nothing if only other commands have this option."""
    for place, name in enumerate(names):
        if _key(key) in _options(command(name)):
            name_and_value = _value(f"{file}: [tool.{TABLE}]", file.parent, command(name), key, value)
            return {} if place else dict([name_and_value])
    every = itertools.chain.from_iterable(_options(command(name)) for name in names)
    raise Refused(f"{file}: [tool.{TABLE}]: {unknown('option', key, map(_written, dict.fromkeys(every)), most=3)}")


def _value(where: str, folder: Path, command: click.Command, key: str, value: Any) -> tuple[str, Any]:
    options = _options(command)
    if _key(key) not in options:
        raise Refused(f"{where}: {unknown('option', key, map(_written, options), most=3)}")
    option = options[_key(key)]
    values = value if isinstance(value, list) else [value]
    if isinstance(value, list) and not (option.multiple or option.nargs > 1):
        raise Refused(f"{where}: {key} takes one value, not a list")
    expected = _expected(option)
    wrong = [one for one in values if type(one) not in expected[1]]
    if wrong:
        raise Refused(f"{where}: {key} = {_shown(wrong[0])}: must be {expected[0]}")
    if isinstance(option.type, click.Path):
        values = [str(folder / Path(one).expanduser()) for one in values]
    taken = values if option.multiple or option.nargs > 1 else values[0]
    try:
        option.type_cast_value(click.Context(command), taken)
    except click.BadParameter as error:
        raise Refused(f"{where}: {key} = {_shown(value)}: {error.message.rstrip('.')}") from error
    return str(option.name), taken


def _expected(option: click.Option) -> tuple[str, tuple[type, ...]]:
    if option.is_flag:
        return "true or false", (bool,)
    if isinstance(option.type, click.types.IntParamType):
        return "a whole number", (int,)
    if isinstance(option.type, click.types.FloatParamType):
        return "a number", (int, float)
    return "a text in quotes", (str,)


def _options(command: click.Command) -> dict[str, click.Option]:
    """Return the options by their long names, as keys."""
    return {
        _key(name.removeprefix("--")): option
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--")
    }


def _key(name: str) -> str:
    return name.replace("-", "_")


def _written(key: str) -> str:
    return key.replace("_", "-")


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def taken(context: click.Context) -> list[str]:
    """Return the defaults that a command took from the file, as words of a command line."""
    words = list[str]()
    for option in context.command.params:
        source = context.get_parameter_source(str(option.name))
        if isinstance(option, click.Option) and source is ParameterSource.DEFAULT_MAP:
            words += _words(option, (context.default_map or {})[str(option.name)])
    return words


def _words(option: click.Option, value: Any) -> Iterator[str]:
    name = max(option.opts, key=len)
    if option.is_flag:
        if value or option.secondary_opts:
            yield name if value else option.secondary_opts[0]
    elif option.nargs > 1 and not option.multiple:
        yield from (name, *map(str, value))
    else:
        for one in value if isinstance(value, list) else [value]:
            yield from (name, str(one))


def command_line() -> list[str]:
    """Return the words that started this process, with the defaults that its command took from the file."""
    context = click.get_current_context(silent=True)
    return [*context.meta[WORDS], *taken(context)] if context else sys.argv[1:]


def say_taken(context: click.Context, file: Path) -> None:
    """Print on stderr what a command took from the file, if it took something."""
    if words := taken(context):
        click.echo(f"defaults from {file}: {shlex.join(words)}", err=True)
