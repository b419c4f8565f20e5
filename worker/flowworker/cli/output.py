"""How answers look: tables for people, aligned lines for pipes, JSON for programs.

Rendering is pure, from rows to text; only `show` and `say` write.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar, cast

import orjson
import typer

from flowworker.errors import InternalError

T = TypeVar("T")

GAP = "  "
NONE = "-"
CELL_LIMIT = 60
"""Longest text of one cell in a table; JSON always carries all of it."""


class Output(StrEnum):
    """Forms of an answer."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[T]):
    """One column of a table."""

    title: str
    cell: Callable[[T], object]
    right: bool = False
    limit: int | None = CELL_LIMIT
    """Longest text shown; None shows all of it."""


def show(columns: Sequence[Column[T]], rows: Sequence[T], output: Output) -> None:
    """Write rows to standard output in the form asked for."""
    match output:
        case Output.JSON:
            say(as_json(rows))
        case Output.TABLE if sys.stdout.isatty():
            _print_rich(columns, rows)
        case Output.TABLE:
            say(as_table(columns, rows))


def say(text: str) -> None:
    """Write lines to standard output.

    Raises:
        NoReaderError: who reads it has gone.
        InternalError: it cannot be written, for example because the disk is full.
    """
    try:
        typer.echo(text)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        raise NoReaderError from None
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise InternalError(f"the answer cannot be written: {error.strerror}") from error


class NoReaderError(Exception):
    """Who reads standard output has gone, as `head` does once it has seen enough."""


def note(text: str) -> None:
    """Write something beside the answer to standard error."""
    typer.echo(text, err=True)


def as_table(columns: Sequence[Column[T]], rows: Sequence[T]) -> str:
    """Aligned plain lines under a line of titles."""
    lines = [[column.title for column in columns], *([_text(column, row) for column in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(_line(columns, cells, widths) for cells in lines)


def as_json(value: object) -> str:
    """Indented JSON of records and whatever they hold; fields that hold JSON become part of it."""
    return orjson.dumps(plain(value), option=orjson.OPT_INDENT_2, default=str).decode()


def plain(value: object) -> Any:
    """Dicts and lists in the place of records; `input_json: bytes` becomes `input`."""
    if is_dataclass(value) and not isinstance(value, type):
        return dict(_field(name, getattr(value, name)) for name in (field.name for field in fields(value)))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in cast("Sequence[object]", value)]
    return value


def ago(moment: datetime | None, now: datetime) -> str:
    """Age of a moment."""
    return NONE if moment is None else span((now - moment).total_seconds())


def span(seconds: float) -> str:
    """A length of time in its two largest useful parts: 350ms, 4.2s, 3m20s, 5h3m, 2d4h."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def stamp(moment: datetime | None) -> str:
    """A moment in UTC to the second."""
    return NONE if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def one_line(text: str, limit: int | None = CELL_LIMIT) -> str:
    """A text of any shape in one line of limited length."""
    flat = " ".join(text.split())
    return flat if limit is None or len(flat) <= limit else flat[: limit - 1] + "…"


def _field(name: str, value: object) -> tuple[str, Any]:
    if not name.endswith("_json"):
        return name, plain(value)
    return name.removesuffix("_json"), orjson.Fragment(value) if isinstance(value, bytes) else None


def _text(column: Column[T], row: T) -> str:
    cell = column.cell(row)
    return NONE if cell is None or cell == "" else one_line(str(cell), column.limit)


def _line(columns: Sequence[Column[T]], cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell.rjust(width) if column.right else cell.ljust(width)
        for column, cell, width in zip(columns, cells, widths, strict=True)
    )
    return GAP.join(padded).rstrip()


def _print_rich(columns: Sequence[Column[T]], rows: Sequence[T]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        texts = [_text(column, row) for column in columns]
        table.add_row(*(Text(text, style=STATE_STYLES.get(text, "")) for text in texts))
    Console().print(table)


STATE_STYLES: Mapping[str, str] = {
    "completed": "green",
    "done": "green",
    "ok": "green",
    "failed": "red",
    "error": "red",
    "lost": "red",
    "started": "cyan",
    "running": "cyan",
    "warning": "yellow",
    "draining": "yellow",
    "skipped": "dim",
    "created": "dim",
}
"""Colours of words that say how something stands."""
