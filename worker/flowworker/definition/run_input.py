"""The input of a flow's runs, as the steps that take it declare it."""

from collections.abc import Iterable
from types import GenericAlias
from typing import Any

from pydantic import TypeAdapter

from flowworker.definition.codec import ANYTHING, Reader, Writer
from flowworker.definition.json_text import JsonText
from flowworker.definition.step import AnyStep, StepKind


def input_reader(step: AnyStep) -> Reader | None:
    """How a step reads the run's input; None when it does not.

    A root map takes one element of the input, so it wants a list of what its handler takes.
    """
    subject = f"input of flow {step.flow_slug!r}, as step {step.slug!r} takes it"
    handler = step.handler
    if handler.run_input is not None:
        return Reader(subject=subject, adapter=handler.run_input.reader.adapter)
    if step.kind is StepKind.MAP and not step.dependencies and handler.payload is not None:
        elements: Any = GenericAlias(list, (handler.payload.type,))
        return Reader(subject=subject, adapter=TypeAdapter(elements))
    return None


def encode(value: object, *, subject: str) -> bytes:
    """Write a value as JSON, text of JSON as it is.

    Raises:
        OutputError: it cannot be written.
    """
    if isinstance(value, JsonText):
        return value.text.encode()
    return Writer(subject=subject, adapter=ANYTHING).write(value)


def encode_checked(value: object, *, subject: str, readers: Iterable[Reader]) -> bytes:
    """Write a value as JSON, text of JSON as it is, and make sure that all who will read it can.

    Raises:
        OutputError: it cannot be written.
        InputError: a reader would refuse it.
    """
    text = encode(value, subject=subject)
    for reader in readers:
        reader.read(text)
    return text
