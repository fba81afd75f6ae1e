"""The generated pages of the reference, made from the lists of the code. `docs/conf.py` writes them at every build."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from benchmarks import cli
from benchmarks.choosing.catalogue import read_catalogue
from benchmarks.choosing.documents import JsonOption
from benchmarks.choosing.scenarios import RECIPES, SCENARIOS
from benchmarks.choosing.suites import SUITES
from harness.data.augment import AUGMENTATIONS
from harness.running.record import STATUSES
from harness.spec import SETTINGS, Case, Stage
from results.storage.comparison import Verdict
from results.storage.rows import SCHEMA, Row, RunStatus

Schema = Mapping[str, Any]

CLICK = """
```{{eval-rst}}
.. click:: {module}:command
   :prog: finetune-bench {name}
```"""

MEANINGS = {
    "ok": "the process ended, and no rule was broken",
    "skipped": "this machine or installation cannot run the case; the reason names what is missing",
    "failed": "the process stopped with an error, or its record breaks a rule",
    "timeout": "the process ran longer than its limit",
    "oom": "the process ran out of memory",
    "killed": "a signal from outside ended the process",
    "interrupted": "the user stopped the run",
}
"""The meaning of each status of a process."""


def command_line() -> str:
    """Return the page about the commands, by folder; sphinx-click writes the options of each."""
    lines = ["`--help` prints the same. In a checkout, `python -m benchmarks` is the same program.\n"]
    modules = cli.command_modules()
    for package, names in itertools.groupby(modules, lambda name: modules[name].rpartition(".")[0]):
        lines.append(f"\n## {inspect.cleandoc(importlib.import_module(package).__doc__ or package).rstrip('.')}")
        lines += [CLICK.format(module=modules[name], name=name) for name in names]
    return _page("Command line", *lines)


def settings() -> str:
    """Return the page about the fields of a case: option, type, default and meaning."""
    fields = msgspec.json.schema_components((Case,))[1]["Case"]["properties"]
    rows = [
        (
            f"`{one.name}`", one.text, "" if one.option is None else f"`--{one.option.replace('_', '-')}`",
            _default(fields[one.name]), _type(fields[one.name]), one.role, one.exactness or "–",
        )
        for one in SETTINGS.values()
    ]  # fmt: skip
    header = ("field", "meaning", "option of `run`", "default", "type", "role", "kind")
    return _page(
        "Settings",
        "A case has one value for each of these fields. Fields with the role *identity* say what is measured, those",
        "with the role *setting* how. A setting that makes the same training faster has a kind: what it may change;",
        "see [kinds of settings](../faster.md#which-settings-and-what-each-one-may-change).\n",
        *_table(header, rows),
        "\n## Augmentations\n",
        *_table(("name", "what it does"), ((f"`{name}`", text) for name, text in AUGMENTATIONS.items())),
    )


def scenarios() -> str:
    """Return the page about scenarios, recipes and suites, with the stages of each scenario in each recipe."""
    lines = [
        "A scenario says which parts train in which stage. A recipe sets the optimizer, epochs and learning rates.",
        "Scenarios of your own: [extending](../extending.md).\n",
        *_table(("recipe", "explanation"), ((f"`{one.name}`", one.explanation) for one in RECIPES.values())),
        "\n## Suites\n",
        *_table(("suite", "explanation"), ((f"`{one.name}`", one.explanation) for one in SUITES.values())),
    ]
    for name, make in SCENARIOS.items():
        made = {recipe.name: make(recipe) for recipe in RECIPES.values()}
        first = next(iter(made.values()))
        lines += [
            f"\n## {name}\n",
            f"*{first.explanation}*; start: {first.start}; initial values of the head: {first.head_init}.\n",
            *_table(
                ("recipe", "stage", *(field.replace("_", " ") for field in Stage.__struct_fields__)),
                (
                    (f"`{recipe}`", str(number), *(_value(getattr(stage, field)) for field in Stage.__struct_fields__))
                    for recipe, scenario in made.items()
                    for number, stage in enumerate(scenario.stages, 1)
                ),
            ),
        ]
    return _page("Scenarios and recipes", *lines)


def models() -> str:
    """Return the page about the models of each backend and their published weights."""
    catalogue = read_catalogue()
    names = list(dict.fromkeys(name for facts in catalogue.backends.values() for name in facts.models))
    offered = [
        (
            f"`{name}`",
            f"{catalogue.backends[catalogue.offering(name)[0]].models[name].gmacs:g}",
            *("yes" if name in facts.models else "–" for facts in catalogue.backends.values()),
        )
        for name in names
    ]
    published = [
        (f"`{name}`", f"`{weights}`", backend, f"`{one.url}`", f"`{one.sha256}`" if one.sha256 else "–")
        for backend, facts in catalogue.backends.items()
        for name, model in facts.models.items()
        for weights, one in model.published.items()
    ]
    backends = [
        (f"`{name}`", _names(facts.engines), _names(facts.formats), _names(facts.packages))
        for name, facts in catalogue.backends.items()
    ]
    return _page(
        "Models, backends and weights",
        *_table(("backend", "engines", "formats of weight files", "packages"), backends),
        "\n## Models\n",
        "GMAC: multiply-accumulates for one image of 224 px, in billions.\n",
        *_table(("model", "GMAC", *catalogue.backends), offered),
        "\n## Published weights\n",
        "Every backend that has the model starts from the same file: [checkpoints by name](../checkpoints.md).\n",
        *_table(("model", "`--checkpoint`", "read by", "address", "SHA-256, or its first digits"), published),
    )


def statuses() -> str:
    """Return the page about statuses, verdicts and exit codes."""
    return _page(
        "Statuses, verdicts and exit codes",
        "## Status of a process\n",
        *_table(("status", "meaning"), ((f"`{status}`", MEANINGS[status]) for status in STATUSES)),
        "\n## Status of a run\n",
        f"The last row of a run has one of the statuses {_names(get_args(RunStatus))}.\n",
        "## Verdict of a comparison\n",
        f"One of {_names(get_args(Verdict))}; [verdicts](../verdicts.md) defines them.\n",
        "## Exit codes\n",
        *_table(("command", "exit codes"), _exit_codes()),
    )


def _exit_codes() -> Iterator[tuple[str, str]]:
    """Yield the sentences about exit codes in the help of the program and of each command."""
    with click.Context(cli.main) as context:
        commands = {"every command": cli.main} | {
            f"`{name}`": command
            for name in cli.main.list_commands(context)
            if (command := cli.main.get_command(context, name))
        }
    for name, command in commands.items():
        text = " ".join(inspect.cleandoc(command.help or "").split())
        for word in ("Exit codes: ", "Exits with "):
            if word in text:
                yield name, text[text.index(word) :]


def schema() -> str:
    """Return the page about the rows of a results file: every type with its fields."""
    _, types = msgspec.json.schema_components((Row,))
    lines = [
        f"The rows of a results file have schema number {SCHEMA}. Each line is one JSON object of one of the types"
        f" {_names(one.__name__ for one in get_args(Row))}; its field `row` names the type. "
        "[Results](../results.md) explains the files."
    ]
    for name, described in types.items():
        lines += [f"\n## {name}\n", *_described(described)]
        required = described.get("required", ())
        fields = (
            (f"`{field}`", _type(one), "required" if field in required else _default(one))
            for field, one in described["properties"].items()
        )
        lines += _table(("field", "type", "default"), fields)
    return _page("Schema of results", *lines)


def documents() -> str:
    """Return the page about `--json`: the document of each command, and every type in it."""
    shapes = [
        (f"`{name}`", shape)
        for name, dotted in cli.command_modules().items()
        for option in importlib.import_module(dotted).command.params
        if isinstance(option, JsonOption)
        for shape in option.shapes()
    ]
    roots, types = msgspec.json.schema_components([shape for _, shape in shapes])
    lines = [
        "A command with `--json` prints one JSON document on stdout and nothing else there; progress and warnings go",
        "to stderr. The exit code is the same. If the command is refused or cannot measure, stdout may be empty.",
        "Shares are fractions and times are in seconds unless a name or the text of a type says otherwise. A missing",
        "figure is null. `gate` prints nothing with exit code 4, and `certify` null for a shard without scenarios.\n",
        *_table(("command", "document"), ((name, _type(root)) for (name, _), root in zip(shapes, roots, strict=True))),
    ]
    for name, described in sorted(types.items()):
        lines += [f"\n## {name}\n", *_described(described)]
        fields = ((f"`{field}`", _type(one)) for field, one in described.get("properties", {}).items())
        lines += _table(("field", "type"), fields)
    return _page("JSON documents", *lines)


PAGES: Mapping[str, Callable[[], str]] = {
    "command-line": command_line,
    "settings": settings,
    "scenarios": scenarios,
    "models": models,
    "statuses": statuses,
    "schema": schema,
    "documents": documents,
}
"""The generated pages by file name, without the ending."""


def write(folder: Path) -> None:
    """Write every page that has changed into a folder."""
    folder.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        path, text = folder / f"{name}.md", make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _page(title: str, *lines: str) -> str:
    return "\n".join((f"# {title}\n", *lines, ""))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _described(schema: Schema) -> Iterator[str]:
    if text := schema.get("description"):
        yield f"{inspect.cleandoc(text)}\n"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "–"


def _value(value: Any) -> str:
    """Return a value of a stage; of an optimizer or a schedule the name and the fields that are not the default."""
    if not isinstance(value, msgspec.Struct):
        return f"{value:g}" if isinstance(value, float) else str(value)
    fields = ((field.name, field.default) for field in msgspec.structs.fields(value) if field.name != "name")
    others = [f"{name} {getattr(value, name)}" for name, default in fields if getattr(value, name) != default]
    return ", ".join([str(getattr(value, "name", "")), *others])


def _default(field: Schema) -> str:
    return f"`{json.dumps(field['default'])}`" if "default" in field else "–"


def _type(field: Schema) -> str:
    """Return the JSON type of a field in words."""
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "enum" in field:
        return _names(map(str, field["enum"]))
    if "anyOf" in field:
        return " or ".join(map(_type, field["anyOf"]))
    if "prefixItems" in field:
        return f"list of {', '.join(map(_type, field['prefixItems']))}"
    kind, of = str(field.get("type", "any")), field.get("items") or field.get("additionalProperties")
    name = "list" if kind == "array" else kind
    return f"{name} of {_type(of)}" if isinstance(of, dict) else name
