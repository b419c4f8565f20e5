"""The page about what programs import: classes and functions with their docstrings."""

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from textwrap import dedent
from typing import Any, cast

from pydantic import BaseModel
from tools.reference.pages import attribute_notes, page, table
from tools.reference.worker_pages import explained

from flowworker import (
    Client,
    DefinitionError,
    EventStream,
    Fail,
    Flow,
    FlowWorkerError,
    InputError,
    Job,
    JobRun,
    JsonText,
    OutputError,
    Queue,
    Restart,
    Retry,
    Step,
    TaskContext,
    Worker,
    WorkerPool,
    testing,
)
from flowworker.database.bulk import BulkPreview, BulkProgress, BulkRequest, BulkResult, RefusedRun
from flowworker.database.cancelling import CancelledJob, CancelledRun
from flowworker.database.jobs_admin import Job as StoredJob
from flowworker.database.run_search import RunFilter
from flowworker.database.runs import Run
from flowworker.definition.context import Cancellation, Message
from flowworker.definition.flow import StepSettings
from flowworker.worker_options import WorkerOptions

GROUPS: Sequence[tuple[str, Sequence[type[Any]]]] = (
    ("Definitions", (Flow, Step, StepSettings, Queue, Job)),
    ("Inside a handler", (TaskContext, Message, Cancellation, Retry, Fail)),
    ("Clients", (Client, JsonText, Run, StoredJob, CancelledRun, CancelledJob)),
    ("Many runs", (RunFilter, BulkPreview, BulkRequest, BulkProgress, BulkResult, RefusedRun)),
    ("Workers inside a program", (Worker, WorkerPool, WorkerOptions, Restart, JobRun, EventStream)),
    ("Errors", (FlowWorkerError, DefinitionError, InputError, OutputError)),
)
SECTION = re.compile(r"(Args|Returns|Raises|Yields|Example):")
ITEM = re.compile(r"(\*{0,2}[\w., ]+): (.*)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def library() -> str:
    """Every public class with its members, and the functions for tests."""
    return page(
        "Library",
        "What programs import from `flowworker`, and tests from `flowworker.testing`.",
        *(line for title, kinds in GROUPS for line in _group(title, kinds)),
        "\n## Tests\n",
        *(line for name in testing.__all__ for line in _testing(name, getattr(testing, name))),
    )


def prose(docstring: str) -> list[str]:
    """A Google-style docstring as Markdown: its sections become lists, an example a block of code."""
    lines: list[str] = []
    section = ""
    for line in inspect.cleandoc(docstring).splitlines():
        if found := SECTION.fullmatch(line):
            section = found[1]
            lines += [f"{section}:", ""]
        elif section and line and not line.startswith(" "):
            section = ""
            lines += [line]
        elif section == "Example":
            shown = line.replace("  # doctest: +SKIP", "")
            lines.append(shown)  # its indentation makes it a block of code
        elif section:
            lines.append(_item(line))
        else:
            lines.append(line)
    return lines


def _item(line: str) -> str:
    """One line of a section: an item begins at the first level, its continuation is deeper."""
    depth = len(line) - len(line.lstrip())
    found = ITEM.fullmatch(line.strip())
    if depth > 4 or not line.strip():
        return f"  {line.strip()}".rstrip()
    return f"- `{found[1]}`: {found[2]}" if found else f"- {line.strip()}"


def _group(title: str, kinds: Iterable[type[Any]]) -> Iterable[str]:
    yield f"\n## {title}"
    for kind in kinds:
        yield from _class(kind)


def _testing(name: str, member: object) -> Iterable[str]:
    if isinstance(member, type):
        yield from _class(cast("type[Any]", member))
    elif callable(member):
        yield from _function(name, member)


def _class(kind: type[Any]) -> Iterable[str]:
    (definition,) = ast.parse(dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    yield f"\n### {kind.__name__}\n"
    yield f"`{kind.__module__}.{kind.__qualname__}`\n"
    yield from prose(inspect.getdoc(kind) or "")
    if issubclass(kind, BaseModel):
        yield ""
        yield from table(("Option", "Default", "Allowed", "Meaning"), explained(kind))
        return
    if rows := _fields(definition, attribute_notes(kind)):
        yield ""
        yield from table(("Field", "Type", "Notes"), rows)
    for member in definition.body:
        if isinstance(member, Function) and _is_shown(member):
            yield from _member(kind.__name__, member)


def _fields(definition: ast.ClassDef, notes: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Fields as the source has them: how Python shows a type differs between its versions."""
    found: list[tuple[str, str, str]] = []
    for field in definition.body:
        match field:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation) if not name.startswith("_"):
                found.append((f"`{name}`", f"`{_unquoted(annotation)}`", notes.get(name, "")))
            case _:
                pass
    return found


def _is_shown(member: Function) -> bool:
    decorators = {ast.unparse(decorator) for decorator in member.decorator_list}
    public = member.name == "__init__" or not member.name.startswith("_")
    return public and "overload" not in decorators and ast.get_docstring(member) is not None


def _member(owner: str, member: Function) -> Iterable[str]:
    name = owner if member.name == "__init__" else f"{owner}.{member.name}"
    yield f"\n#### `{_signature(name, member)}`\n"
    yield from prose(ast.get_docstring(member) or "")


def _function(name: str, function: Callable[..., object]) -> Iterable[str]:
    (definition,) = ast.parse(dedent(inspect.getsource(function))).body
    assert isinstance(definition, Function)
    yield f"\n### `{_signature(name, definition)}`\n"
    yield from prose(ast.get_docstring(definition) or "")


def _signature(name: str, member: Function) -> str:
    is_property = any(ast.unparse(decorator) == "property" for decorator in member.decorator_list)
    arguments = "" if is_property else f"({_arguments(member)})"
    returns = "" if member.returns is None or member.name == "__init__" else f" -> {_unquoted(member.returns)}"
    awaited = "await " if isinstance(member, ast.AsyncFunctionDef) else ""
    return f"{awaited}{name}{arguments}{returns}"


def _arguments(member: Function) -> str:
    arguments = member.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if argument.annotation is not None:
            argument.annotation = ast.Name(_unquoted(argument.annotation))
    return re.sub(r"^(self|cls)(, )?(/, )?", "", ast.unparse(arguments))


def _unquoted(annotation: ast.expr) -> str:
    text = ast.unparse(annotation)
    return annotation.value if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str) else text
