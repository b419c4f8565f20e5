"""Slow names of one namespace hold up no other, whatever they are."""

import asyncio
import socket
import threading
import time
from collections.abc import Sequence

import pytest
from testkit.support.waiting import until

from flowworker_operator.resolver import THREADS, Resolver


class Names:
    """Names whose lookup ends when a test says so; that of `good` at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.end = threading.Event()

    def lookup(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if not host.startswith("good"):
            self.end.wait(30)
        if host.startswith("unknown"):
            raise socket.gaierror(-2, "Name or service not known")
        return ["192.0.2.1"]


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def resolver(names: Names) -> Resolver:
    return Resolver(time.monotonic, names.lookup)


async def ended(names: Names, tasks: Sequence["asyncio.Task[Sequence[str]]"]) -> None:
    names.end.set()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_good_name_is_found_while_a_hundred_namespaces_wait_for_theirs(
    names: Names, resolver: Resolver
) -> None:
    slow = [asyncio.create_task(resolver.resolve(f"tenant-{number}", f"slow-{number}")) for number in range(100)]
    await until(lambda: len(names.asked) == 100, "all are looked up at once")
    async with asyncio.timeout(1):
        assert await resolver.resolve("good", "good") == ["192.0.2.1"]
    await ended(names, slow)


async def test_a_namespace_with_any_number_of_slow_names_leaves_threads_to_the_others(
    names: Names, resolver: Resolver
) -> None:
    slow = [asyncio.create_task(resolver.resolve("greedy", f"slow-{number}")) for number in range(1000)]
    await until(lambda: len(names.asked) == THREADS // 2, "half of the threads are taken")
    slow += [asyncio.create_task(resolver.resolve("second", f"more-{number}")) for number in range(1000)]
    await until(lambda: len(names.asked) == THREADS * 3 // 4, "half of the rest is taken")
    async with asyncio.timeout(1):
        await resolver.resolve("good", "good")
    for task in slow:
        task.cancel()
    await ended(names, slow)


async def test_who_asks_for_the_same_host_shares_one_lookup(names: Names, resolver: Resolver) -> None:
    slow = [asyncio.create_task(resolver.resolve(f"tenant-{number}", "slow")) for number in range(50)]
    await until(lambda: names.asked == ["slow"], "it is looked up")
    slow[0].cancel()
    names.end.set()
    found = await asyncio.gather(*slow[1:])
    assert found == [["192.0.2.1"]] * 49
    assert names.asked == ["slow"]


async def test_a_host_that_waits_in_the_line_of_another_namespace_is_looked_up_for_the_next_one_at_once(
    names: Names, resolver: Resolver
) -> None:
    slow = [asyncio.create_task(resolver.resolve("greedy", f"slow-{number}")) for number in range(THREADS)]
    slow.append(asyncio.create_task(resolver.resolve("greedy", "good")))
    await until(lambda: len(names.asked) == THREADS // 2, "half of the threads are taken")
    async with asyncio.timeout(5):
        assert await resolver.resolve("second", "good") == ["192.0.2.1"]
        assert await slow[-1] == ["192.0.2.1"]
    for task in slow:
        task.cancel()
    await ended(names, slow)
    assert names.asked.count("good") == 1


async def test_an_answer_that_comes_after_who_asked_has_left_serves_the_next(names: Names, resolver: Resolver) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await resolver.resolve("tenant", "slow")
    names.end.set()

    async def known() -> bool:
        return await resolver.resolve("tenant", "slow") == ["192.0.2.1"]

    await until(known, "it is known")
    await resolver.resolve("tenant", "slow")
    assert names.asked == ["slow"]


async def test_a_quick_answer_is_asked_for_anew(names: Names, resolver: Resolver) -> None:
    async def anew() -> bool:
        await resolver.resolve("tenant", "good")
        return len(names.asked) > 1

    await until(anew, "it is asked for again")


async def test_an_unknown_name_ends_the_wait_of_all_who_asked(names: Names, resolver: Resolver) -> None:
    asked = [asyncio.create_task(resolver.resolve("tenant", "unknown")) for _ in range(3)]
    await until(lambda: bool(names.asked), "it is looked up")
    names.end.set()
    assert all(isinstance(one, socket.gaierror) for one in await asyncio.gather(*asked, return_exceptions=True))
    with pytest.raises(socket.gaierror):
        await resolver.resolve("tenant", "unknown")


@pytest.mark.parametrize("address", ["192.0.2.7", "::1"])
async def test_an_address_is_not_looked_up(names: Names, resolver: Resolver, address: str) -> None:
    assert await resolver.resolve("tenant", address) == [address]
    assert names.asked == []


async def test_a_name_without_a_waiter_is_not_looked_up(names: Names) -> None:
    resolver = Resolver(time.monotonic, names.lookup, threads=1)
    first = asyncio.create_task(resolver.resolve("tenant", "slow"))
    await until(lambda: names.asked == ["slow"], "the thread is taken")
    second = asyncio.create_task(resolver.resolve("tenant", "slow-2"))
    await asyncio.sleep(0)
    second.cancel()
    third = asyncio.create_task(resolver.resolve("tenant", "good"))
    await asyncio.sleep(0)
    await ended(names, [first, second, third])
    assert names.asked == ["slow", "good"]


async def test_all_who_wait_get_an_answer_where_no_thread_can_be_started(
    names: Names, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    waiting = [asyncio.create_task(resolver.resolve("a", f"slow-{number}")) for number in range(1000)]
    await until(lambda: names.asked, "threads are taken")
    await asyncio.sleep(0)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    names.end.set()
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*waiting, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, OSError)]
    assert {str(answer) for answer in refused} == {"can't start new thread"}
    assert len(refused) >= 1000 - THREADS
    assert faults == []
