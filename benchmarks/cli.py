"""The command line: `python -m benchmarks`, or `finetune-bench`. Commands are modules below `benchmarks.commands`."""

from __future__ import annotations

import ast
import atexit
import functools
import gc
import importlib
import itertools
import logging
import pkgutil
import textwrap
from pathlib import Path
from typing import Any

import click

from benchmarks import commands
from benchmarks.choosing.configuration import WORDS, defaults, find_configuration
from benchmarks.running.terminal import use_stand_ins
from harness.errors import Declined, Refused, not_utf8, printable, unknown


class Commands(click.Group):
    """A group that imports a command when it is called, and prints refusals as one line with an exit code."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the program; its output, the help included, is converted to the terminal's encoding."""
        use_stand_ins()
        # Nothing is collected while the process ends: after pandas and Altair, that took a quarter of a second.
        atexit.register(gc.freeze)
        return super().main(*arguments, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse bytes that are not UTF-8 in arguments and the working folder, because records are UTF-8."""
        if wrong := next((text for text in (*args, _working_folder()) if not_utf8(text)), None):
            ctx.fail(f"{printable(wrong)} is not valid UTF-8; rename the file or folder")
        ctx.meta[WORDS] = list(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the modules in the folders of `benchmarks.commands`."""
        return sorted(command_modules())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in self.list_commands(ctx):
            ctx.fail(unknown("command", cmd_name, self.list_commands(ctx)))
        return _load(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by folder, each with its first sentence; reading the source is faster than an import."""
        modules = command_modules()
        width = formatter.width - 6 - max(map(len, modules))
        for package, names in itertools.groupby(modules, lambda name: modules[name].rpartition(".")[0]):
            with formatter.section((importlib.import_module(package).__doc__ or package).rstrip(".")):
                formatter.write_dl([(name, _first_sentence(modules[name], width)) for name in names])

    def invoke(self, ctx: click.Context) -> Any:
        """Exit with 2 for refused input, 3 for a task that this machine cannot do, 130 when interrupted."""
        try:
            return super().invoke(ctx)
        except (Refused, Declined) as error:
            click.echo(f"error: {printable(str(error))}", err=True)
            ctx.exit(2 if isinstance(error, Refused) else 3)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


def _load(name: str) -> click.Command:
    command: click.Command = importlib.import_module(command_modules()[name]).command
    return command


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # deleted while this program started in it
        return ""


def command_modules() -> dict[str, str]:
    """Return the module of each command by folder; the docstring of a folder is its heading in `--help`."""
    return {
        module.name: f"{commands.__name__}.{folder}.{module.name}"
        for folder in commands.FOLDERS
        for module in pkgutil.iter_modules([str(Path(commands.__path__[0], folder))])
    }


def _first_sentence(dotted: str, width: int) -> str:
    inside = dotted.removeprefix(f"{commands.__name__}.").split(".")
    path = Path(commands.__path__[0], *inside).with_suffix(".py")
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
        version = "unknown (this checkout is not installed)"
    click.echo(f"finetune-bench, version {version}")
    ctx.exit()


def _show_processes(context: click.Context) -> None:
    from harness.process.launch import STARTED  # slow to import, and not needed for --help

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("+ %(message)s"))
    STARTED.addHandler(handler)
    STARTED.setLevel(logging.INFO)
    context.call_on_close(functools.partial(STARTED.removeHandler, handler))
    context.call_on_close(functools.partial(STARTED.setLevel, logging.NOTSET))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config/--no-config", default=True, help="Use the defaults of [tool.finetune-bench] in pyproject.toml.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print only the answer or table, warnings and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Print each process that is started.")
@click.pass_context
def main(context: click.Context, config: bool, quiet: bool, verbose: bool) -> None:
    """Benchmark fine-tuning in PyTorch and Keras: speed, accuracy, and changes of both.

    Exit codes: 0 success; 1 a check failed, such as a confirmed regression; 2 wrong usage or refused input; 3 a case
    failed, is missing, was skipped although named in the options, or nothing was measured; 130 interrupted.
    """
    if quiet and verbose:
        raise Refused("give either --quiet or --verbose")
    if verbose:
        _show_processes(context)
    name, folder = context.invoked_subcommand, _working_folder()
    found = find_configuration(Path(folder)) if config and name and folder else None
    if found and name:
        context.default_map = {name: defaults(found, name, command_modules(), _load)}
        context.obj = found.file
