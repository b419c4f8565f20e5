"""Uses of the public API that a type checker must accept, with the types it must see."""

from collections.abc import Coroutine, Sequence
from typing import Any, assert_type

from pydantic import BaseModel

from flowworker import Flow, Job, Queue, Step, TaskContext


class Site(BaseModel):
    urls: list[str]


report = Flow("report", max_attempts=3, base_delay=2, timeout=30)


@report.step
async def urls(site: Site) -> list[str]:
    return site.urls


@report.step(timeout=5, start_delay=10, run_in="thread", slug="host_names")
def hosts(urls: list[str]) -> Sequence[str]:
    return urls


@report.map(over=urls)
async def fetch(url: str, ctx: TaskContext) -> int:
    return len(url) * ctx.attempt


@report.step(when={"urls": []}, unless={"draft": True}, when_unmet="skip_cascade", when_exhausted="skip")
async def apology(site: Site) -> str:
    return "nothing to fetch"


@report.map(over=fetch, run_in="process")
def double(size: int) -> float:
    return size * 2.0


@report.map(over=hosts)
async def resolve(host: object) -> tuple[str, ...]:
    return (str(host),)


@report.step(after=[resolve])
async def total(double: list[float]) -> float:
    return sum(double)


numbers = Flow("numbers")


@numbers.map
def square(number: int) -> int:
    return number * number


@numbers.map(over=None, max_attempts=1)
async def negate(number: int) -> int:
    return -number


@numbers.step
def unique(square: list[int]) -> set[int]:
    return set(square)


@numbers.map(over=unique)
def root(number: int) -> int:
    return number


mail = Queue("mail", max_attempts=5)


@mail.job
async def send(message: Site, ctx: TaskContext) -> None: ...


letters = Queue("letters")


@letters.job(type="welcome", run_in="process")
def welcome(message: Site) -> int:
    return len(message.urls)


async def called_directly(ctx: TaskContext) -> None:
    site = Site(urls=[])
    assert_type(await urls(site), list[str])
    assert_type(await urls(site=site), list[str])
    assert_type(hosts(["a"]), Sequence[str])
    assert_type(await fetch("a", ctx), int)
    assert_type(double(2), float)
    assert_type(square(2), int)
    assert_type(await negate(2), int)
    assert_type(await send(site, ctx), None)
    assert_type(welcome(site), int)


def passed_on(ctx: TaskContext) -> None:
    """Steps and jobs keep parameters, what a call returns, and what dependants see."""
    step: Step[[Site], Coroutine[Any, Any, list[str]], list[str]] = urls
    mapped: Step[[str, TaskContext], Coroutine[Any, Any, int], list[int]] = fetch
    job: Job[[Site], int] = welcome
    assert_type(step.slug, str)
    assert_type(report.steps["urls"].dependencies, tuple[str, ...])
    assert_type(mapped.feeds_map, bool)
    assert_type(job(Site(urls=[])), int)
