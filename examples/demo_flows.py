"""What `make demo` runs: a map flow and a job queue whose handlers only pretend to talk to a network."""

import asyncio

from pydantic import BaseModel

from flowworker import Flow, Queue, Retry, TaskContext


class Site(BaseModel):
    """What a run starts with."""

    urls: list[str]


class Mail(BaseModel):
    """One job."""

    address: str


site_report = Flow("site_report", max_attempts=3, base_delay=1, timeout=30)


@site_report.step
async def urls(site: Site) -> list[str]:
    """The pages to fetch."""
    return site.urls


@site_report.map(over=urls)
async def fetch(url: str, ctx: TaskContext) -> int:
    """One page; every tenth is slow to answer the first time."""
    await asyncio.sleep(0.01)
    if url.endswith("0") and ctx.attempt == 1:
        raise Retry(f"{url} did not answer", after=0.5)
    return len(url)


@site_report.step
async def total(fetch: list[int]) -> int:
    """The size of the whole site."""
    return sum(fetch)


mail = Queue("mail", max_attempts=3, base_delay=1, timeout=20)


@mail.job
async def send(message: Mail, ctx: TaskContext) -> str:
    """One mail; the server refuses every twentieth the first time."""
    await asyncio.sleep(0.01)
    if message.address.endswith(("00@example.org", "20@example.org")) and ctx.attempt == 1:
        raise Retry("the mail server is busy", after=0.5)
    return f"sent to {message.address}"
