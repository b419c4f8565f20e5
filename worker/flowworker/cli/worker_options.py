"""Every setting of a worker as an option of a command: the options cannot drift from the settings they set."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, TypeAlias, get_args

import typer
from pydantic.fields import FieldInfo

from flowworker.settings import Settings, option, variable
from flowworker.worker_options import allowed

SPELLED: Mapping[str, str] = {"database_url": "--dsn"}
"""Options that are not named after their setting."""

Command: TypeAlias = Callable[..., int]


def with_worker_options(command: Command) -> Command:
    """Give a command an option for every setting.

    Args:
        command: takes its own parameters, and the options given as keyword `options: dict[str, object]`, by field name.
    """
    own = inspect.signature(command)
    parameters = [parameter for name, parameter in own.parameters.items() if name != "options"]
    settings = [_parameter(name, field) for name, field in Settings.model_fields.items()]

    @wraps(command)
    def wrapped(**given: object) -> int:
        options = {name: given.pop(name) for name in Settings.model_fields}
        return command(**given, options={name: value for name, value in options.items() if value is not None})

    wrapped.__signature__ = own.replace(parameters=[*parameters, *settings])  # pyright: ignore[reportAttributeAccessIssue]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in (*parameters, *settings)}
    return wrapped


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(name, field))


def _annotation(name: str, field: FieldInfo) -> Any:
    """Values stay text, because the settings check them and say what is allowed; switches get a `--no-` twin."""
    text = f"{field.description} [{variable(name)}{_default(field)}]"
    spelled = SPELLED.get(name, option(name))
    if bool in (field.annotation, *get_args(field.annotation)):
        return Annotated[bool | None, typer.Option(f"{spelled}/--no-{spelled.removeprefix('--')}", help=text)]
    return Annotated[str | None, typer.Option(spelled, help=text, metavar=_metavar(name))]


def _default(field: FieldInfo) -> str:
    return "" if field.default is None else f", default {field.default}"


def _metavar(name: str) -> str:
    words = allowed(Settings, name)
    if words.startswith("`"):
        return "|".join(word.strip("`") for word in words.split(" or "))
    kinds = {
        "a whole number": "N",
        "a number": "SECONDS",
        "a UUID": "UUID",
        "a path": "FILE",
        "a PostgreSQL URI": "URI",
    }
    return next((short for words_of_kind, short in kinds.items() if words.startswith(words_of_kind)), "TEXT")
