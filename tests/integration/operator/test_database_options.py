"""What differs between code and database is read of what workers reported, and compared with what is there by now."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson
import pytest
from testkit.support.waiting import until
from tests.integration.operator.observer import Observer, read, report, subject
from tests.integration.sources.world import World

from flowworker import Flow
from flowworker.database.compile import update_options
from flowworker.database.heartbeat import MOST_CHANGES
from flowworker.database.records import SourceKind
from flowworker.option_change import OptionChange

TUNED = subject("tuned")


def tuned(*, timeout: int = 30) -> Flow:
    flow = Flow("tuned", timeout=timeout)

    @flow.step
    async def first(_: int) -> int:
        return 0

    @flow.step(max_attempts=None if timeout == 30 else 7, start_delay=None if timeout == 30 else 4)
    async def second(first: int) -> int:
        return first

    return flow


FOUND = (
    OptionChange(step=None, option="timeout", code=90, database=30),
    OptionChange(step="second", option="max_attempts", code=7, database=None),
    OptionChange(step="second", option="start_delay", code=4, database=0),
)


async def reported(world: World, changes: object, *, revision: str | None = "aaaa", **values: Any) -> None:
    """Write the row of one more worker."""
    text = orjson.dumps(changes).decode()
    where = {"flowworker": "tuned", "slug": "tuned", "revision": revision, **values}
    await report(world.owner, uuid4(), **where)
    await world.owner.execute(
        "UPDATE flowworker.workers SET option_changes = $1::text::jsonb "
        "WHERE started_at = (SELECT max(started_at) FROM flowworker.workers)",
        text,
    )


async def differing(world: World) -> dict[str, Sequence[OptionChange]]:
    return dict((await read(world.database, TUNED)).option_changes)


async def test_what_a_worker_found_is_reported_until_the_options_are_written(world: World) -> None:
    await world.create(tuned())
    await reported(world, FOUND)
    assert await differing(world) == {"aaaa": list(FOUND)}
    await world.owner.execute("UPDATE pgflow.flows SET opt_timeout = 90 WHERE flow_slug = 'tuned'")
    assert await differing(world) == {"aaaa": list(FOUND[1:])}
    await world.owner.execute("UPDATE pgflow.flows SET opt_timeout = 45 WHERE flow_slug = 'tuned'")
    assert (await differing(world))["aaaa"][0] == replace(FOUND[0], database=45)
    await update_options(world.owner, tuned(timeout=90))
    assert await differing(world) == {"aaaa": []}


async def test_the_newest_worker_of_each_revision_speaks_for_it_also_once_it_has_ended(world: World) -> None:
    await world.create(tuned())
    await reported(world, FOUND[1:])
    await reported(world, FOUND[:1])
    await reported(world, [], revision="bbbb", state="stopped")
    assert await differing(world) == {"aaaa": [FOUND[0]], "bbbb": []}
    await reported(world, FOUND[:2], revision="bbbb", state="lost")
    assert (await differing(world))["bbbb"] == list(FOUND[:2])


async def test_others_do_not_speak_for_it(world: World) -> None:
    await world.create(tuned())
    await reported(world, FOUND, namespace="elsewhere")
    await reported(world, FOUND, flowworker="another")
    await reported(world, FOUND, slug="one_step")
    await reported(world, FOUND, kind=SourceKind.QUEUE)
    await reported(world, FOUND, revision=None)
    await reported(world, None)
    assert await differing(world) == {}


@pytest.mark.parametrize(
    "changes",
    [
        7, {"step": "a"}, "text", [7, None, "a", [], {}], [{"step": {"a": 1}, "option": ["x"], "code": {"deep": [1]}}],
        [{"step": None, "option": "opt_timeout; --", "code": 3}, {"step": None, "option": "timeout", "code": "3"}],
        [{"step": None, "option": "timeout", "code": True}, {"step": None, "option": "timeout", "code": 1e300}],
    ],
)  # fmt: skip
async def test_what_no_worker_of_ours_reports_is_left_out(world: World, changes: object) -> None:
    await world.create(tuned())
    await reported(world, changes)
    assert not any((await differing(world)).values())


async def test_only_so_many_are_read(world: World) -> None:
    await world.create(tuned())
    await reported(world, [replace(FOUND[0], code=100 + number) for number in range(1000)])
    assert len((await differing(world))["aaaa"]) == MOST_CHANGES


async def test_a_schema_that_gets_the_column_is_noticed(world: World, observer: Observer) -> None:
    await world.create(tuned())
    await world.owner.execute("ALTER TABLE flowworker.workers DROP COLUMN option_changes")
    observer.watch(world.database.worker_dsn, TUNED)
    assert (await observer.reads(TUNED)).option_changes == {}
    await world.owner.execute("ALTER TABLE flowworker.workers ADD COLUMN option_changes jsonb")
    await reported(world, FOUND)

    async def was_read() -> bool:
        return bool((await observer.reads(TUNED)).option_changes)

    await until(was_read, "what the new column holds is read")
