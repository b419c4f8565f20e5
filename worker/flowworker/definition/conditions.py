"""Conditions of a step: on which inputs it runs, and what follows for the run where it does not, or fails for good.

The words of pgflow's other libraries are `if`, `ifNot`, `whenUnmet` and `whenExhausted`; Python reserves the first.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import orjson

if TYPE_CHECKING:
    from flowworker.definition.binding import Subject

ConsequenceWord: TypeAlias = Literal["skip", "skip_cascade", "fail"]
"""`"skip"` leaves the step out; `"skip_cascade"` it and all that depend on it; `"fail"` fails the run."""


class Consequence(StrEnum):
    """What becomes of a step, in pgflow's words."""

    FAIL = "fail"
    SKIP = "skip"
    """Dependants run without its output; a map over it runs over nothing."""
    SKIP_CASCADE = "skip-cascade"
    """All that depend on it are skipped as well."""

    @property
    def word(self) -> str:
        """What a flow in code calls it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Conditions of one step; the defaults are those of `pgflow.add_step`."""

    when: str | None = None
    """Canonical JSON of an object that the step's input must contain."""
    unless: str | None = None
    """Canonical JSON of an object that it must not contain."""
    when_unmet: Consequence = Consequence.SKIP
    when_exhausted: Consequence = Consequence.FAIL

    def __iter__(self) -> Iterator[str]:
        """What differs from the defaults, in the words of a flow in code: `when={"plan":"pro"}`."""
        for field in fields(self):
            value: str | None = getattr(self, field.name)
            if value != field.default:
                yield said(field.name, value)

    @property
    def leave_gaps(self) -> bool:
        """Whether dependants may have to run without the step's output."""
        return Consequence.SKIP in {self.when_exhausted, self.when_unmet if self.when or self.unless else None}

    @property
    def fail_runs(self) -> bool:
        """Whether the run fails where they are not met."""
        return self.when_unmet is Consequence.FAIL and (self.when or self.unless) is not None


def said(name: str, value: str | None) -> str:
    """One condition in the words of a flow in code."""
    return f"no {name}" if value is None else f"{name}={value.word if isinstance(value, Consequence) else value}"


PLAIN = Conditions()
"""What a step without conditions has."""


def read_conditions(
    subject: "Subject", settings: Mapping[str, Any], *, dependencies: Sequence[str], is_map: bool
) -> Conditions:
    """The conditions among a step's settings.

    Raises:
        DefinitionError: a pattern is no JSON object or could never be contained, or a word is none of pgflow's.
    """
    patterns = {
        name: _pattern(subject, name, settings[name], dependencies)
        for name in ("when", "unless")
        if settings.get(name) is not None
    }
    if patterns and is_map and not dependencies:
        raise subject.error(
            f"{'= and '.join(patterns)}= could never be met: a map over the run's input gets a list, and conditions "
            "are objects; give them to a single step that returns the list"
        )
    if not patterns and settings.get("when_unmet") is not None:
        raise subject.error("when_unmet= says what follows where when= or unless= is not met; there is neither")
    consequences = {
        name: _consequence(subject, name, settings[name])
        for name in ("when_unmet", "when_exhausted")
        if settings.get(name) is not None
    }
    return Conditions(**cast("dict[str, Any]", patterns | consequences))


def canonical(text: str | bytes) -> str:
    """JSON in the one form that everything equal to it in PostgreSQL's jsonb has: sorted keys, 1 for 1.0."""
    value = json.loads(text, parse_int=Decimal, parse_float=Decimal)
    return orjson.dumps(value, default=_digits, option=orjson.OPT_SORT_KEYS).decode()


def _pattern(subject: "Subject", name: str, value: object, dependencies: Sequence[str]) -> str:
    if not isinstance(value, Mapping) or not value:
        raise subject.error(f"{name}= takes a dict of what the input must contain, and not an empty one; got {value!r}")
    keys = cast("Mapping[object, object]", value).keys()
    if dependencies and (unknown := [key for key in keys if key not in dependencies]):
        raise subject.error(
            f"{name}= names {unknown[0]!r}, which the step does not depend on: with dependencies it is compared with "
            f"their outputs by slug ({', '.join(dependencies)}), and only without any with the run's input"
        )
    from flowworker.definition.codec import ANYTHING, OutputError, Writer  # `runs show` needs no pydantic

    try:
        return canonical(Writer(subject=f"{name}=", adapter=ANYTHING).write(cast("object", value)))
    except OutputError as error:
        raise subject.error(str(error)) from error


def _consequence(subject: "Subject", name: str, word: object) -> Consequence:
    for one in Consequence:
        if one.word == word:
            return one
    raise subject.error(f"{name}= must be 'skip', 'skip_cascade' or 'fail', got {word!r}")


def _digits(number: object) -> Any:
    assert isinstance(number, Decimal)
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return orjson.Fragment("0" if text == "-0" else text)
