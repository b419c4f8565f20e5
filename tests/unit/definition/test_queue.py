"""What a queue of jobs is made of, and how it finds the handler of a payload."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from flowworker import DefinitionError, InputError, OutputError, Queue, TaskContext
from flowworker.definition.handler import RunMode
from flowworker.definition.options import QueueOptions


class Mail(BaseModel):
    to: str


class Welcome(BaseModel, extra="forbid"):
    type: Literal["welcome"]
    to: str


def typed() -> Queue:
    queue = Queue("typed")

    @queue.job(type="welcome")
    async def welcome(message: Welcome) -> None: ...

    @queue.job(type="mail", run_in="thread")
    def mail(message: Mail, ctx: TaskContext) -> str:
        return message.to

    return queue


async def send(message: Mail) -> None: ...


def test_one_handler_takes_every_payload() -> None:
    queue = Queue("mail", max_attempts=5, base_delay=2, timeout=20)
    job = queue.job(send)

    assert queue.handler_for(b"[]") is job.handler
    assert queue.options == QueueOptions(max_attempts=5, base_delay=2, timeout=20)
    assert job.handler.decode(b'{"to": "ann"}', None).values == {"message": Mail(to="ann")}
    assert job.handler.reference == f"{__name__}:mail"
    assert repr(job) == "<job of queue 'mail'>"


def test_the_field_type_of_a_payload_chooses_the_handler() -> None:
    queue = typed()

    assert queue.handler_for(b'{"type": "mail", "to": "ann"}').mode is RunMode.THREAD
    welcome = queue.handler_for(b'{"to": "ann", "type": "welcome"}')
    assert welcome.reference == f"{__name__}:typed.welcome"
    assert welcome.decode(b'{"to": "ann", "type": "welcome"}', None).values["message"].to == "ann"
    assert repr(queue) == "<queue 'typed' with 2 handlers>"


async def test_a_job_is_called_like_the_function_it_was_made_from() -> None:
    job = Queue("mail").job(send)

    assert await job(Mail(to="ann")) is None
    assert job.__name__ == "send"


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b'{"type": "sms"}', "no handler for type 'sms', known types: 'welcome', 'mail'"),
        (
            b'{"to": "ann"}',
            "type: Field required; its field 'type' chooses the handler, known types: 'welcome', 'mail'",
        ),
        (b'{"type": 3}', r"type: Input should be a valid string \(got int\)"),
        (b"[]", "Input should be an object"),
        (b"null", "Input should be an object"),
        (b"{", "Invalid JSON"),
    ],
)
def test_an_unknown_or_malformed_payload_is_refused_with_its_problem(payload: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=f"^payload of queue 'typed': {problem}"):
        typed().handler_for(payload)


def test_a_queue_without_handlers_refuses_every_payload() -> None:
    with pytest.raises(InputError, match="no handler for type 'mail', known types: none"):
        Queue("empty").handler_for(b'{"type": "mail"}')


def test_a_payload_is_written_only_if_its_handler_can_read_it() -> None:
    queue = typed()

    assert queue.encode_payload(Welcome(type="welcome", to="ann")) == b'{"type":"welcome","to":"ann"}'
    assert (
        queue.encode_payload({"type": "mail", "to": "ann", "more": None}) == b'{"type":"mail","to":"ann","more":null}'
    )
    with pytest.raises(InputError, match="to: Field required"):
        queue.encode_payload({"type": "mail"})
    with pytest.raises(InputError, match="no handler for type 'sms'"):
        queue.encode_payload({"type": "sms"})
    with pytest.raises(OutputError, match=r"payload for queue 'typed' at to is a object"):
        queue.encode_payload({"type": "mail", "to": object()})


def test_a_queue_defined_without_handlers_can_still_be_sent_to() -> None:
    assert Queue("elsewhere").encode_payload({"a": False}) == b'{"a":false}'


def add_untyped_twice(queue: Queue) -> None:
    queue.job(send)
    queue.job(send)


def add_type_twice(queue: Queue) -> None:
    queue.job(type="mail")(send)
    queue.job(type="mail")(send)


def add_untyped_then_typed(queue: Queue) -> None:
    queue.job(send)
    queue.job(type="mail")(send)


def add_typed_then_untyped(queue: Queue) -> None:
    queue.job(type="mail")(send)
    queue.job(send)


def add_two_payloads(queue: Queue) -> None:
    @queue.job
    def handler(one: int, two: int) -> None: ...


@pytest.mark.parametrize(
    ("define", "rule"),
    [
        (add_untyped_twice, "queue 'mail': it already has a handler, at "),
        (add_type_twice, "queue 'mail', job 'mail': it already has a handler, at "),
        (add_untyped_then_typed, "either one handler without a type, or every handler has one"),
        (add_typed_then_untyped, "either one handler without a type, or every handler has one"),
        (add_two_payloads, "parameters 'one' and 'two' are ambiguous"),
    ],
)
def test_a_wrong_job_is_refused_with_the_rule_it_breaks(define: Callable[[Queue], None], rule: str) -> None:
    with pytest.raises(DefinitionError, match=rf"test_queue\.py:\d+: .*{rule}"):
        define(Queue("mail"))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "is empty"),
        ("x" * 48, "has 48 characters"),
        *((f"a{text}b", "contains one of the characters pgmq refuses") for text in ("$", ";", "--", "'")),
        ("a\0b", r"contains U\+0000"),
    ],
)
def test_a_wrong_queue_name_is_refused(name: str, rule: str) -> None:
    with pytest.raises(DefinitionError, match=rf"test_queue\.py:\d+: queue .*: the name {rule}"):
        Queue(name)


@pytest.mark.parametrize(("name", "capable"), [("mail", True), ("mail-2", True), ("Mail", False)])
def test_only_lower_case_queues_can_notify(name: str, capable: bool) -> None:
    assert Queue(name).notify_capable is capable


def test_a_payload_parameter_is_not_needed() -> None:
    queue = Queue("ticks")

    @queue.job
    def tick(ctx: TaskContext) -> None: ...

    handler: Any = queue.handler_for(b"null")
    assert handler.decode(b"null", None).values == {}
