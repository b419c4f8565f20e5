"""What people pass to decorators: it works, or one clear error says so when the module is imported."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Never

import pytest

from flowworker import DefinitionError, Fail, Flow, OutputError, Queue, Retry, TaskContext
from flowworker.definition.handler import RunMode
from flowworker.definition.outcomes import wish_in
from flowworker.testing import run_flow, run_job

WRONG: Any = 3


async def twice(number: int) -> int:
    return 2 * number


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that knows nothing about coroutines."""

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords)

    return call


def running(function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """A decorator that runs the coroutine itself."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return asyncio.run(function(*arguments))

    return call


def at_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that needs no coroutine to answer."""

    @functools.wraps(function)
    def call(number: int) -> Any:
        return 2 * number

    return call


NAMELESS: Callable[[int], int] = lambda number: 2 * number  # noqa: E731 - a lambda is what is tested


class Twice:
    async def __call__(self, number: int) -> int:
        return 2 * number

    def method(self, number: int) -> int:
        return 2 * number

    async def coroutine(self, number: int) -> int:
        return 2 * number

    @classmethod
    def of_class(cls, number: int) -> int:
        return 2 * number

    @staticmethod
    def of_none(number: int) -> int:
        return 2 * number


class PlainTwice:
    def __call__(self, number: int) -> int:
        return 2 * number


def awaitable(number: int) -> Awaitable[int]:
    return twice(number)


def coroutine(number: int) -> Coroutine[Any, Any, int]:
    return twice(number)


def with_defaults(number: int, ctx: TaskContext | None = None, /) -> int:
    return 2 * number if ctx else 0


async def with_keywords(*, number: int) -> int:
    return 2 * number


def scaled(factor: int, /, number: int) -> int:
    return factor * number


@pytest.mark.parametrize(
    ("handler", "mode"),
    [
        (twice, RunMode.ASYNC),
        (plain(twice), RunMode.ASYNC),
        (plain(plain(twice)), RunMode.ASYNC),
        (at_once(twice), RunMode.ASYNC),
        (Twice(), RunMode.ASYNC),
        (PlainTwice(), RunMode.THREAD),
        (functools.partial(twice), RunMode.ASYNC),
        (functools.partial(Twice()), RunMode.ASYNC),
        (functools.partial(plain(twice)), RunMode.ASYNC),
        (functools.partial(scaled, 2), RunMode.THREAD),
        (functools.lru_cache(PlainTwice()), RunMode.THREAD),
        (Twice().method, RunMode.THREAD),
        (Twice().coroutine, RunMode.ASYNC),
        (Twice.of_class, RunMode.THREAD),
        (Twice.of_none, RunMode.THREAD),
        (awaitable, RunMode.ASYNC),
        (coroutine, RunMode.ASYNC),
        (with_defaults, RunMode.THREAD),
        (with_keywords, RunMode.ASYNC),
        (NAMELESS, RunMode.THREAD),
    ],
)
def test_whatever_can_be_called_is_a_handler(handler: Any, mode: RunMode) -> None:
    flow, queue = Flow("flow", max_attempts=1), Queue("queue", max_attempts=1)

    step = flow.step(slug="doubled")(handler)
    job = queue.job(handler)

    assert step.handler.mode is job.handler.mode is mode
    assert run_flow(flow, 21).output == {"doubled": 42}
    assert run_job(job, 21) in {42, 0}


def test_a_wrapper_that_runs_its_coroutine_itself_says_so_with_run_in() -> None:
    flow = Flow("flow", max_attempts=1)
    flow.step(slug="doubled", run_in="thread")(running(twice))
    assert run_flow(flow, 21).output == {"doubled": 42}


class InItsClass:
    def method(self, number: int) -> int:
        return number


def generator(number: int) -> Iterator[int]:
    yield number


async def stream(number: int) -> AsyncIterator[int]:
    yield number


class Generating:
    def __call__(self, number: int) -> Iterator[int]:
        yield number


class Streaming:
    async def __call__(self, number: int) -> AsyncIterator[int]:
        yield number


def takes_a_type(kind: type[int]) -> None: ...


def takes_a_function(call: Callable[[int], int]) -> None: ...


def returns_a_function() -> Callable[[int], int]: ...


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (Twice, "must be a function, Twice is a class"),
        (int, "must be a function, int is a class"),
        (InItsClass.method, "parameter 'self' shows a method that belongs to no object"),
        (Twice.__dict__["of_class"], "must be a function, got <classmethod"),
        (functools.cache(twice), "can be awaited only once"),
        (plain(functools.cache(twice)), "can be awaited only once"),
        (generator, "is a generator"),
        (stream, "is a generator"),
        (plain(stream), "is a generator"),
        (functools.partial(generator), "is a generator"),
        (Generating(), "is a generator"),
        (Streaming(), "is a generator"),
        (takes_a_type, "the type of parameter 'kind' has no JSON form"),
        (takes_a_function, "the type of parameter 'call' has no JSON form"),
        (returns_a_function, "the type of the output has no JSON form"),
        (max, "Python does not know the parameters|is not possible"),
        (3, "must be a function, got 3"),
    ],
)
def test_what_could_never_work_is_a_definition_error(handler: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=rf"test_first_contact.py:\d+: flow 'flow', step 'step': .*({message})"):
        Flow("flow").step(slug="step")(handler)
    with pytest.raises(DefinitionError, match=message):
        Queue("queue").job(handler)


def test_a_method_decorated_inside_of_its_class_is_refused() -> None:
    queue = Queue("queue")

    with pytest.raises(DefinitionError, match="'self' shows a method"):

        class Jobs:  # pyright: ignore[reportUnusedClass]
            @queue.job
            def send(self): ...


@pytest.mark.parametrize("handler", [Twice(), functools.partial(twice), NAMELESS])
def test_a_step_without_a_name_asks_for_one(handler: Any) -> None:
    with pytest.raises(DefinitionError, match="has no name that could be the step's; name it with slug="):
        Flow("flow").step(handler)


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (lambda: Flow(WRONG), "the slug must be text, not int"),
        (lambda: Queue(WRONG), "the name must be text, not int"),
        (lambda: Flow("flow").step(slug=WRONG)(twice), "the slug must be text, not int"),
        (lambda: Flow("flow").step(after=WRONG)(twice), "after= takes a list of steps, got 3"),
        (lambda: Queue("queue").job(type=WRONG)(twice), "type= takes text"),
        (lambda: Queue("queue").job(WRONG), "must be a function, got 3"),
    ],
)
def test_an_option_of_another_type_is_a_definition_error(define: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        define()


def test_a_coroutine_that_nothing_awaits_is_refused_and_closed() -> None:
    step: Any = Flow("flow").step(slug="step")(lambda number: twice(number))  # pyright: ignore
    with pytest.raises(OutputError, match=r"output of flow 'flow', step 'step' is a coroutine, .* make it `async def`"):
        step.handler.encode(step(1))


def test_a_handler_that_never_returns_may_say_so() -> None:
    def fail(number: int) -> Never:
        raise Fail("no")

    assert Flow("flow").step(fail).handler.output is Any


async def raise_in_group(*errors: Exception) -> None:
    async def fail(error: Exception) -> None:
        raise error

    async with asyncio.TaskGroup() as group:
        for error in errors:
            group.create_task(fail(error))


@pytest.mark.parametrize(
    ("errors", "attempts", "message"),
    [
        ([Fail("no such account")], 1, "no such account"),
        ([ValueError("x"), Fail("no such account"), Retry(after=1)], 1, "no such account"),
        ([ExceptionGroup("inner", [Fail("no such account")])], 1, "no such account"),
    ],
)
def test_a_fail_in_a_group_is_final(errors: list[Exception], attempts: int, message: str) -> None:
    flow = Flow("flow", max_attempts=3)

    @flow.step
    async def asynchronous(value: None) -> None:
        await raise_in_group(*errors)

    in_thread = Flow("in_thread", max_attempts=3)

    @in_thread.step
    def synchronous(value: None) -> None:
        asyncio.run(raise_in_group(*errors))

    for one in (flow, in_thread):
        result = run_flow(one, None)
        assert (len(result.attempts), result.error) == (attempts, message)


def test_a_retry_in_a_group_chooses_the_longest_delay() -> None:
    flow = Flow("flow", max_attempts=2)

    @flow.step
    async def busy(value: None) -> None:
        await raise_in_group(Retry(after=7), ValueError("x"), Retry(after=30))

    assert [attempt.started_at for attempt in run_flow(flow, None).attempts] == [0, 30]


def test_a_group_without_a_wish_is_an_exception_like_any_other() -> None:
    group = ExceptionGroup("several", [ValueError("a"), KeyError("b")])
    assert wish_in(group) is group


def test_a_bare_fail_is_final() -> None:
    flow = Flow("flow", max_attempts=3)

    @flow.step
    async def give_up(value: None) -> None:
        raise Fail

    result = run_flow(flow, None)
    assert (len(result.attempts), result.error) == (1, "the handler failed for good")
