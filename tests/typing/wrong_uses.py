"""Uses of the public API that a type checker must refuse.

Every `# pyright: ignore[rule]` marks a line that is wrong, and by which rule. test_typing.py takes the marks off and
asserts that pyright then reports exactly these lines.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUntypedFunctionDecorator=false

from flowworker import Fail, Flow, Queue, Retry, TaskContext

flow = Flow("flow")
queue = Queue("queue")


@flow.step
async def names(count: int) -> list[str]:
    return ["name"] * count


@flow.step
def total(names: list[str]) -> int:
    return len(names)


@flow.step
async def word(count: int) -> str:
    return "word" * count


@flow.step
async def perhaps(count: int) -> list[str] | None:
    return ["name"] if count else None


@flow.step(when={"kind": "a"}, when_unmet="skip-cascade")  # pyright: ignore[reportArgumentType]
async def consequence_under_pgflow_s_own_name(count: int) -> int:
    return count


@flow.step
async def by_name(count: int) -> dict[str, int]:
    return {"name": count}


@flow.map(over=names)  # pyright: ignore[reportArgumentType, reportCallIssue]
async def takes_another_element(number: int) -> int:
    return number


@flow.map(over=names)  # pyright: ignore[reportArgumentType, reportCallIssue]
def takes_another_element_in_a_thread(number: int) -> int:
    return number


@flow.map(over=names)
async def lengths(name: str) -> int:
    return len(name)


@flow.map(over=lengths)  # pyright: ignore[reportArgumentType, reportCallIssue]
async def takes_another_element_of_a_map(length: str) -> str:
    return length


@flow.map(over=names)  # pyright: ignore[reportArgumentType, reportCallIssue]
async def takes_no_element() -> int:
    return 1


@flow.map(over=names)  # pyright: ignore[reportArgumentType, reportCallIssue]
async def takes_the_context_first(ctx: TaskContext, name: str) -> str:
    return name


@flow.map(over=total)  # pyright: ignore[reportArgumentType, reportCallIssue]
async def over_a_number(number: int) -> int:
    return number


@flow.map(over=word)  # pyright: ignore[reportArgumentType, reportCallIssue]
async def over_a_string(letter: str) -> str:
    return letter


@flow.map(over=perhaps)  # pyright: ignore[reportArgumentType, reportCallIssue]
async def over_an_optional_list(name: str) -> str:
    return name


@flow.map(over=by_name)  # pyright: ignore[reportArgumentType, reportCallIssue]
async def over_a_dict(name: str) -> str:
    return name


@flow.map(over="names")  # pyright: ignore[reportArgumentType, reportCallIssue]
async def over_a_slug(name: str) -> str:
    return name


@flow.step(timeout="5")  # pyright: ignore[reportArgumentType]
async def with_a_timeout_in_words(count: int) -> int:
    return count


@flow.step(max_attempt=5)  # pyright: ignore[reportCallIssue]
async def with_an_unknown_option(count: int) -> int:
    return count


@flow.step(run_in="fiber")  # pyright: ignore[reportArgumentType]
def in_an_unknown_place(count: int) -> int:
    return count


@flow.step(after=[flow])  # pyright: ignore[reportArgumentType]
def after_a_flow(count: int) -> int:
    return count


@flow.step(after=["names"])  # pyright: ignore[reportArgumentType]
def after_a_slug(count: int) -> int:
    return count


@queue.job(type=1)  # pyright: ignore[reportArgumentType]
async def of_a_numbered_type(message: str) -> None: ...


@queue.job(timeout=5)  # pyright: ignore[reportCallIssue]
async def with_an_option_of_the_queue(message: str) -> None: ...


async def wrong_calls(ctx: TaskContext) -> None:
    await names("three")  # pyright: ignore[reportArgumentType]
    total(["name"], 2)  # pyright: ignore[reportCallIssue]
    await lengths(1)  # pyright: ignore[reportArgumentType]
    await total(["name"])  # pyright: ignore[reportGeneralTypeIssues]
    ctx.attempt = 2  # pyright: ignore[reportAttributeAccessIssue]


def wrong_outcomes() -> None:
    raise Retry("later")  # pyright: ignore[reportCallIssue]


def wrong_failure() -> None:
    raise Fail(3)  # pyright: ignore[reportArgumentType]


Flow(slug=1)  # pyright: ignore[reportArgumentType]
Flow("no_such_option", start_delay=1)  # pyright: ignore[reportCallIssue]
Queue("typed", max_attempts="many")  # pyright: ignore[reportArgumentType]
