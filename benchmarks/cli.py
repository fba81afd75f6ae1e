"""The command line: `python -m benchmarks`, or `finetune-bench`. Commands are modules below `benchmarks.commands`."""

from __future__ import annotations

import ast
import importlib
import itertools
import pkgutil
import textwrap
from pathlib import Path
from typing import Any

import click

from benchmarks import commands
from benchmarks.running.terminal import use_stand_ins
from harness.errors import Declined, Refused, printable, unknown


class Commands(click.Group):
    """Imports a command when it is called, and turns what the harness says no to into a line and an exit code."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """The entry of the program: whatever it prints, its help included, suits the terminal's encoding."""
        use_stand_ins()
        return super().main(*arguments, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the modules in the folders of `benchmarks.commands`."""
        return sorted(command_modules())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in self.list_commands(ctx):
            ctx.fail(unknown("command", cmd_name, self.list_commands(ctx)))
        command: click.Command = importlib.import_module(command_modules()[cmd_name]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by folder, each with its first sentence, read from the source: importing them is slow."""
        modules = command_modules()
        width = formatter.width - 6 - max(map(len, modules))
        for package, names in itertools.groupby(modules, lambda name: modules[name].rpartition(".")[0]):
            with formatter.section(importlib.import_module(package).__doc__ or package):
                formatter.write_dl([(name, _first_sentence(modules[name], width)) for name in names])

    def invoke(self, ctx: click.Context) -> Any:
        """Exit 2 for refused input, 3 for what cannot be done here or was not measured, 130 when interrupted."""
        try:
            return super().invoke(ctx)
        except Refused as error:
            click.echo(f"error: {printable(str(error))}", err=True)
            ctx.exit(2)
        except Declined as error:
            click.echo(f"error: {printable(str(error))}", err=True)
            ctx.exit(3)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


def command_modules() -> dict[str, str]:
    """The module of each command, folder by folder; a folder's docstring is its heading in `--help`."""
    return {
        module.name: f"{commands.__name__}.{folder}.{module.name}"
        for folder in commands.FOLDERS
        for module in pkgutil.iter_modules([str(Path(commands.__path__[0], folder))])
    }


def _first_sentence(dotted: str, width: int) -> str:
    path = Path(commands.__path__[0], *dotted.split(".")[2:]).with_suffix(".py")
    module = ast.parse(path.read_text(encoding="utf-8"))
    function = next(node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == "command")
    sentence = (ast.get_docstring(function) or "").partition(". ")[0].partition("\n\n")[0].rstrip(".")
    return textwrap.shorten(sentence, width, placeholder="...")


def _print_version(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from importlib import metadata

    try:
        version = metadata.version("finetune-bench")
    except metadata.PackageNotFoundError:
        version = "of a checkout that is not installed"
    click.echo(f"finetune-bench, version {version}")
    ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Fine-tuning benchmarks for PyTorch and Keras: how fast, how accurate, and whether anything changed.

    Exit codes: 0 done; 1 the answer is no; 2 wrong usage or refused input; 3 something failed, is missing, was asked
    for by name and skipped, or nothing was measured; 130 interrupted.
    """
