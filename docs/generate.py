"""Reference pages made from the program itself: commands, configuration keys, venues. A hook of mkdocs."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from inspect import cleandoc
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel

from raytrade import config as configuration
from raytrade.cli import app
from raytrade.venues import VENUES


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {"cli": commands_page(), "config": config_page(), "venues": venues_page()}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def commands_page() -> str:
    """Give every command with its help and options."""
    parts = [
        "# Commands\n",
        "Exit status of every command: 0 done, 1 the run failed, 2 usage or configuration is wrong, 130 Ctrl-C. "
        "An error is one line on standard error; into a pipe no control codes are written. "
        "`raytrade --install-completion` completes commands and options in bash, zsh and fish.\n",
    ]
    for path, command in _commands(typer.main.get_command(app), "raytrade"):
        parts.append(f"## {path}\n")
        text, _, example = (command.help or "").partition("Example: ")
        parts += [text.strip().replace("[", "\\[") + "\n", f"```text\n{example.strip()}\n```\n"]
        rows = [_option(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            parts.append("\n".join(["| option | default | meaning |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _option(parameter: Any) -> str:
    is_argument = parameter.param_type_name == "argument"
    name = parameter.metavar or (parameter.name or "").upper()
    shown = f"`{name}`" if is_argument else f"`{', '.join(parameter.opts)}`"
    default = "" if parameter.default in (None, "", False) or callable(parameter.default) else f"`{parameter.default}`"
    meaning = (getattr(parameter, "help", "") or "").replace("|", "\\|").replace("[", "\\[")
    return f"| {shown} | {default} | {meaning} |"


def _sections(section: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Give the section and all that lie in it, each with its path in the file."""
    yield path, section
    for key, field in section.model_fields.items():
        for form, part in _parts(field.annotation):
            yield from _sections(part, f"{path}.{key}{form}".removeprefix("."))


def _parts(kind: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """Give the sections that a key's type is made of, and how they stand in it: alone, in a list, or by name."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield "", kind
        return
    form = {list: "[]", dict: ".<name>"}.get(get_origin(kind), "")
    for argument in get_args(kind):
        yield from ((f"{form}{more}", part) for more, part in _parts(argument))


def config_page() -> str:
    """Give every key of the configuration file."""
    parts = [
        "# Configuration\n",
        "One YAML file. Every key is checked; a mistyped one is answered with the nearest right name. "
        "`raytrade config check FILE` starts nothing, `raytrade config schema` gives the JSON Schema for editors.\n",
    ]
    for name, section in _sections(configuration.Config):
        parts += [f"## {name or 'the file'}\n", cleandoc(section.__doc__ or "") + "\n", _keys(section)]
    return "\n".join(parts)


def _keys(section: type[BaseModel]) -> str:
    rows = ["| key | type | default |", "|---|---|---|"]
    for key, field in section.model_fields.items():
        default = "required" if field.is_required() else _plain(field.default)
        rows.append(f"| `{key}` | {_kind(field.annotation)} | {default} |")
    return "\n".join(rows) + "\n"


def _kind(kind: Any) -> str:
    """Give a type in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_kind(argument) for argument in arguments)
    if origin is list:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"mapping of {_kind(arguments[0])} to {_kind(arguments[1])}"
    if kind is Any:
        return "anything"
    return "section" if issubclass(kind, BaseModel) else _WORDS[kind]


_WORDS = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "`true`, `false`",
    Decimal: "decimal",
    NoneType: "nothing",
}


def _plain(value: object) -> str:
    if isinstance(value, BaseModel):
        return "see below"
    return f"`{value}`" if value != "" else "empty"


def venues_page() -> str:
    """Give the table of venues: merge class and integrity test of every channel."""
    parts = ["# Venues\n", "| venue | channel | theirs | copies are merged by | what proves it whole | first book |"]
    parts.append("|---|---|---|---|---|---|")
    for name, spec in VENUES.items():
        for channel, part in spec.channels.items():
            row = [f"`{name}`", channel.name.lower(), f"`{part.name}`", part.merge.value, part.integrity, part.snapshot]
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return parts[0] + "\n" + "\n".join(parts[1:]) + "\n"
