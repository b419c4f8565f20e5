"""What messages say about values that do not fit: their types and places, and the values only where that was asked for.

A payload may be private, and messages are logged and stored. So a value is named by its type, a key only where it looks
like the name of a field, and a text that a validator made is shown without what it quotes of the value. With
`--log-payloads` values are quoted, shortened.
"""

import re
import traceback
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TypeAlias, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flowworker.redaction import HIDDEN, payloads_are_shown

Path: TypeAlias = tuple[str | int, ...]
"""The way from a value to a part of it: keys and indices."""

ERRORS_SHOWN = 3

VALUE_SHOWN = 80
"""Characters of an offending value that a message repeats."""

SHORTEST_QUOTE = 4
"""Characters; shorter values are found in too many words."""
_LARGEST_QUOTE = 10**100
"""Python refuses to write very large numbers."""
MOST_QUOTES = 1000
"""Parts of a value that are looked for in a message."""

_FIELD = re.compile(r"\w[\w-]{0,39}(?:\[[\w\[\]|(), .-]{0,80}\])?")
"""A name, or what pydantic calls the member of a union: `list[int]`, `function-after[check(), str]`."""
_MOST_DIGITS = 3
"""In the name of a field; more are a number of something."""

_CHAIN = 100
"""Exceptions that are looked at behind one."""


def described(value: object) -> str:
    """A value in a message."""
    if not payloads_are_shown():
        return type(value).__name__
    text = repr(value)
    return text if len(text) <= VALUE_SHOWN else f"{text[: VALUE_SHOWN - 1]}…"


def named(key: str) -> str:
    """A key, or the type of a job, in a message: it stands only where it looks like a name."""
    plain = key.replace("\\u0000", "")
    if payloads_are_shown() or (_FIELD.fullmatch(plain) and sum(map(str.isdigit, plain)) <= _MOST_DIGITS):
        return key
    return HIDDEN


def dotted(path: Path) -> str:
    """A place inside a value: `urls[3].host`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{named(part)}" for part in path).removeprefix(".")


def place_in(subject: str, path: Path) -> str:
    """A place inside something: `output of step 'total' at urls[3]`."""
    return f"{subject} at {dotted(path)}" if path else subject


def explain(error: ValidationError, subject: str) -> str:
    """One line about a validation error: the subject, then place and problem of the first errors."""
    problems = error.errors(include_url=False, include_context=False)
    lines = [_one_problem(problem) for problem in problems[:ERRORS_SHOWN]]
    more = len(problems) - len(lines)
    return f"{subject}: {'; '.join(lines)}{f' (and {more} more)' if more else ''}"


def text_of(error: BaseException) -> str:
    """An exception's text; that of a validation error names no value."""
    return explain(error, error.title) if isinstance(error, ValidationError) else str(error)


def traceback_of(error: BaseException, trace: TracebackType | None) -> str:
    """An exception's traceback with all that led to it; validation errors in it name no value."""
    return _unquoted("".join(traceback.format_exception(type(error), error, trace)), error)


def summary_of(error: BaseException) -> str:
    """The last lines of an exception's traceback: its class and text."""
    return _unquoted("".join(traceback.format_exception_only(error)), error).strip()


def _unquoted(text: str, error: BaseException) -> str:
    """A traceback, or the end of one, without what its validation errors quote."""
    lines = text.splitlines(keepends=True)
    for one in () if payloads_are_shown() else _validation_errors(error):
        lines = _replaced(lines, str(one).splitlines(), text_of(one))
    return "".join(lines)


def _one_problem(problem: ErrorDetails) -> str:
    path = dotted(problem["loc"])
    got = "" if problem["type"] in {"missing", "json_invalid"} else f" (got {described(problem['input'])})"
    message = problem["msg"] if payloads_are_shown() else _without(problem["msg"], problem["input"])
    return f"{path}: {message}{got}" if path else f"{message}{got}"


def _without(message: str, value: object) -> str:
    """A message without what it quotes of a value."""
    for quote in sorted(set(_quotes(value)), key=len, reverse=True):
        if quote in message:
            message = message.replace(quote, HIDDEN)
    return message


def _quotes(value: object) -> Iterator[str]:
    """Texts that stand for a value, or a part of it, in a message."""
    pending, seen = [value], 0
    while pending and seen < MOST_QUOTES:
        part = pending.pop()
        seen += 1
        if isinstance(part, Mapping):
            for key, one in cast("Mapping[object, object]", part).items():
                pending += [one] if isinstance(key, str) and named(key) == key else [key, one]
        elif isinstance(part, list | tuple):
            pending += cast("list[object]", part)
        elif isinstance(part, str) or (isinstance(part, int | float) and abs(part) <= _LARGEST_QUOTE):
            yield from (text for text in (str(part), repr(part).strip("'\"")) if len(text) >= SHORTEST_QUOTE)


def _validation_errors(error: BaseException) -> Iterator[ValidationError]:
    """Those among an exception and all behind it."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending and len(seen) < _CHAIN:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, ValidationError):
            yield one
        pending += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            pending += cast("BaseExceptionGroup[BaseException]", one).exceptions


def _replaced(lines: list[str], head_and_rest: list[str], text: str) -> list[str]:
    """Lines of a traceback with an error's own lines replaced by one."""
    head, *rest = head_and_rest
    known = {line.strip() for line in rest}
    kept: list[str] = []
    inside = False
    for line in lines:
        at = line.find(head)
        if at >= 0:
            kept.append(f"{line[:at]}{text}\n")
            inside = True
        elif not (inside and line.lstrip(" |").rstrip() in known):
            kept.append(line)
            inside = False
    return kept
