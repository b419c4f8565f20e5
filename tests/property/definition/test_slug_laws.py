"""Our rules for names against those of pgflow and pgmq themselves."""

import random
import string
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from flowworker.database.connection import Connection
from flowworker.database.identifiers import queue_table
from flowworker.definition.queue import Queue
from flowworker.definition.slugs import flow_slug_problem, queue_name_problem, step_slug_problem
from flowworker.errors import DefinitionError

ALPHABET = string.ascii_letters + string.digits + "_-$;' .\n\t\u00e9\u540d\u017f\uff21"
EDGES = [
    "",
    "run",
    "Run",
    "run_",
    "_",
    "__",
    "1",
    "a",
    "a\n",
    "\na",
    "x" * 47,
    "x" * 48,
    "x" * 128,
    "x" * 129,
    "\u00e9" * 3,
]


TROUBLE = ["\u00e9t\u00e9", "\u00fcber", "\u00dcBER", "\u540d" * 15, "\u540d" * 16, "\u00e9" * 32, "Mail", "a b", 'a"b']


def names(number: int) -> list[str]:
    """Edge cases and random strings, of letters mostly, so that many are legal."""
    chance = random.Random(3)
    made = list(EDGES)
    while len(made) < number:
        letters = chance.choice([string.ascii_letters + "_", ALPHABET])
        made.append("".join(chance.choice(letters) for _ in range(chance.choice([1, 3, 8, 46, 47, 48, 128, 129]))))
    return made


async def test_a_step_slug_is_refused_exactly_when_pgflow_refuses_it(owner: Connection) -> None:
    statement = "SELECT slug, pgflow.is_valid_slug(slug) AS valid FROM unnest($1::text[]) AS slug"

    rows = await owner.fetch(statement, names(3000))

    assert [row["slug"] for row in rows if row["valid"] is not (step_slug_problem(row["slug"]) is None)] == []
    assert 300 < sum(row["valid"] for row in rows) < 2700


async def test_a_flow_can_be_created_exactly_when_its_slug_is_accepted(owner: Connection) -> None:
    for slug in names(60):
        assert await is_possible(owner, "SELECT pgflow.create_flow($1)", slug) is (flow_slug_problem(slug) is None)


async def test_a_queue_whose_name_is_accepted_is_found_under_it(owner: Connection) -> None:
    """Of what pgmq takes we refuse the empty name, and outside of ASCII long names and capital letters."""
    accepted = 0
    for name in filter(None, [*names(120), *TROUBLE]):
        possible = await is_possible(owner, "SELECT pgmq.create($1)", name)
        if queue_name_problem(name) is None:
            accepted += 1
            assert possible, name
            async with rolled_back(owner):
                await owner.execute("SELECT pgmq.create($1)", name)
                assert await owner.fetchval("SELECT to_regclass($1)", queue_table(name)) is not None, name
        else:
            assert not possible or not name.isascii(), name
    assert accepted > 10


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("\u540d" * 32, "96 bytes"),
        ("\u00e9" * 32, "64 bytes"),
        ("\u00dcBER", "capital letter"),
        ("\uff21", "capital letter"),
        ("\ud800", "surrogate"),
    ],
)
def test_a_name_that_databases_would_cut_or_fold_in_their_own_way_is_refused(name: str, problem: str) -> None:
    assert problem in str(queue_name_problem(name))
    with pytest.raises(DefinitionError, match=problem):
        Queue(name)


@asynccontextmanager
async def rolled_back(connection: Connection) -> AsyncGenerator[None]:
    """What happens inside leaves nothing behind."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def is_possible(connection: Connection, statement: str, name: str) -> bool:
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement, name)
    except asyncpg.PostgresError:
        return False
    finally:
        await transaction.rollback()
    return True
