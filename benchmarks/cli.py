"""The command line: `python -m benchmarks`, or `finetune-bench`. One module of `benchmarks.commands` per command."""

from __future__ import annotations

import importlib
import pkgutil
from importlib import metadata
from typing import Any

import click

from benchmarks import commands
from benchmarks.names import unknown
from benchmarks.terminal import use_stand_ins
from harness.errors import Declined, Refused


class Commands(click.Group):
    """Imports a command when it is called, and turns what the harness says no to into a line and an exit code."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """The entry of the program: whatever it prints, its help included, suits the terminal's encoding."""
        use_stand_ins()
        return super().main(*arguments, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the modules of `benchmarks.commands`."""
        return sorted(module.name for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in self.list_commands(ctx):
            ctx.fail(unknown("command", cmd_name, self.list_commands(ctx)))
        command: click.Command = importlib.import_module(f"benchmarks.commands.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Exit 2 for refused input, 3 for what cannot be done here or was not measured, 130 when interrupted."""
        try:
            return super().invoke(ctx)
        except Refused as error:
            click.echo(f"error: {_one_line(error)}", err=True)
            ctx.exit(2)
        except Declined as error:
            click.echo(f"error: {_one_line(error)}", err=True)
            ctx.exit(3)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


def _one_line(error: Exception) -> str:
    # Names of files may hold line breaks and worse, and are quoted as they are.
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(error))


def _version() -> str:
    try:
        return metadata.version("finetune-bench")
    except metadata.PackageNotFoundError:
        return "of a checkout that is not installed"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_version(), prog_name="finetune-bench")
def main() -> None:
    """Fine-tuning benchmarks for PyTorch and Keras: how fast, how accurate, and whether anything changed.

    Exit codes: 0 done; 1 the answer is no; 2 wrong usage or refused input; 3 something failed, is missing, was asked
    for by name and skipped, or nothing was measured; 130 interrupted.
    """
