"""The flow of the cluster's demo; mounted into the worker's image as the module `flows`, so it needs no image."""

import asyncio

from pydantic import BaseModel

from flowworker import Flow


class Site(BaseModel):
    """What a run starts with."""

    urls: list[str]


site_report = Flow("site_report", max_attempts=3, base_delay=1, timeout=30)


@site_report.step
async def urls(site: Site) -> list[str]:
    """The pages to fetch."""
    return site.urls


@site_report.map(over=urls)
async def fetch(url: str) -> int:
    """One page; it takes its time, as networks do."""
    await asyncio.sleep(2)
    return len(url)


@site_report.step
async def total(fetch: list[int]) -> int:
    """The size of the whole site."""
    return sum(fetch)
