"""Queues: plain pgmq queues of jobs, without pgflow."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar, overload

from pydantic import BaseModel, ValidationError

from flowworker.definition.binding import RunIn, Subject, bind_job
from flowworker.definition.codec import InputError
from flowworker.definition.decorators import JobDecorator
from flowworker.definition.handler import Handler
from flowworker.definition.job import Job
from flowworker.definition.options import QueueOptions, check_options
from flowworker.definition.place import caller
from flowworker.definition.quoting import explain, named
from flowworker.definition.run_input import encode_checked
from flowworker.definition.slugs import can_notify, queue_name_problem

P = ParamSpec("P")
Returned = TypeVar("Returned")


class _Typed(BaseModel):
    """The one field of a payload that chooses the handler."""

    type: str


class Queue:
    """A pgmq queue whose messages are jobs: one handler for all, or one per value of the payload's `type` field.

    Example:
        >>> mail = Queue("mail", max_attempts=5, base_delay=2, timeout=20)
        >>> @mail.job
        ... async def send(message: dict[str, str]) -> None: ...
        >>> mail.encode_payload({"to": "ann@example.org"})
        b'{"to":"ann@example.org"}'
    """

    def __init__(
        self,
        name: str,
        *,
        max_attempts: int | None = None,
        base_delay: int | None = None,
        timeout: int | None = None,
    ) -> None:
        """Define a queue.

        Args:
            name: of the pgmq queue; at most 47 bytes in UTF-8, none of `$ ; -- '`, no capital letters outside of
                ASCII. Only lower-case queues can notify.
            max_attempts: attempts per job, 1 or more; 5 by default.
            base_delay: seconds; attempt n + 1 starts `base_delay * 2 ** n` after attempt n failed; 5 by default.
            timeout: seconds one attempt may take; 60 by default.

        Raises:
            DefinitionError: the name or an option is one pgmq or PostgreSQL refuses.
        """
        self.place = caller().place
        given = {"max_attempts": max_attempts, "base_delay": base_delay, "timeout": timeout}
        if problem := queue_name_problem(name):
            raise self.place.error(f"queue {name!r}", f"the name {problem}")
        check_options(given, place=self.place, subject=f"queue {name!r}")
        self._name = name
        self._options = QueueOptions(**{option: value for option, value in given.items() if value is not None})
        self._jobs: dict[str | None, Job[..., Any]] = {}

    @property
    def name(self) -> str:
        """Name of the pgmq queue."""
        return self._name

    @property
    def options(self) -> QueueOptions:
        """Retry and timeout options of its jobs."""
        return self._options

    @property
    def jobs(self) -> Mapping[str | None, Job[..., Any]]:
        """Jobs by type; the only one of a queue without types has the key None."""
        return MappingProxyType(self._jobs)

    @property
    def notify_capable(self) -> bool:
        """Whether pgmq can announce inserts: it never does for a name with capitals."""
        return can_notify(self._name)

    @overload
    def job(self, handler: Callable[P, Returned], /) -> Job[P, Returned]: ...
    @overload
    def job(self, /, *, type: str | None = None, run_in: RunIn | None = None) -> JobDecorator: ...
    def job(
        self,
        handler: Callable[..., Any] | None = None,
        /,
        *,
        type: str | None = None,  # noqa: A002 - the name of the field it is compared with
        run_in: RunIn | None = None,
    ) -> Any:
        """Make a function the handler of this queue's jobs.

        Args:
            handler: the function, when used as plain `@queue.job`.
            type: take only payloads whose field `type` has this value.
            run_in: `"process"` runs a `def` handler in a child process; the default is a thread.

        Raises:
            DefinitionError: with file, line and the rule that is broken.
        """
        decorator = JobDecorator(partial(self._add, type_name=type, run_in=run_in))
        return decorator if handler is None else decorator(handler)

    def handler_for(self, payload: bytes) -> Handler:
        """The handler of a payload.

        Raises:
            InputError: no handler takes a payload of this type.
        """
        only = self._jobs.get(None)
        return only.handler if only is not None else self._jobs[self._type_of(payload)].handler

    def encode_payload(self, value: object) -> bytes:
        """Write a payload as JSON, refusing what its handler would refuse.

        Raises:
            OutputError: the value cannot be written as JSON.
            InputError: no handler takes it.
        """
        text = encode_checked(value, subject=f"payload for queue {self._name!r}", readers=())
        if self._jobs:
            self.handler_for(text).decode(text, None)
        return text

    def _add(self, function: Callable[..., Any], *, type_name: str | None, run_in: RunIn | None) -> Job[..., Any]:
        what = f", job {type_name!r}" if type_name else ""
        subject = Subject(
            function=function,
            title=f"queue {self._name!r}{what}",
            owner=self._name,
            name=type_name,
            run_in=run_in,
            caller=caller(),
        )
        if type_name is not None and not isinstance(type_name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise subject.error(
                f"type= takes text, which the field 'type' of a payload is compared with, got {type_name!r}"
            )
        self._refuse_second(subject)
        job = Job(
            queue_name=self._name,
            type_name=type_name,
            handler=bind_job(subject),
            function=function,
            place=subject.caller.place,
        )
        self._jobs[type_name] = job
        return job

    def _refuse_second(self, subject: Subject) -> None:
        if subject.name in self._jobs:
            raise subject.error(f"it already has a handler, at {self._jobs[subject.name].place.at}")
        if self._jobs and (subject.name is None or None in self._jobs):
            raise subject.error("a queue has either one handler without a type, or every handler has one")

    def _type_of(self, payload: bytes) -> str:
        known = ", ".join(repr(name) for name in self._jobs) or "none"
        try:
            found = _Typed.model_validate_json(payload).type
        except ValidationError as error:
            problem = explain(error, f"payload of queue {self._name!r}")
            raise InputError(f"{problem}; its field 'type' chooses the handler, known types: {known}") from None
        if found not in self._jobs:
            raise InputError(
                f"payload of queue {self._name!r}: no handler for type {named(found)!r}, known types: {known}"
            )
        return found

    def __repr__(self) -> str:
        return f"<queue {self._name!r} with {len(self._jobs)} handlers>"
