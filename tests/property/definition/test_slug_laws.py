"""Our rules for names against those of pgflow and pgmq themselves."""

import random
import string

import asyncpg

from flowworker.database.connection import Connection
from flowworker.definition.slugs import flow_slug_problem, queue_name_problem, step_slug_problem

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


async def test_a_queue_can_be_created_exactly_when_its_name_is_accepted(owner: Connection) -> None:
    for name in filter(None, names(60)):  # pgmq itself takes the empty name; we do not
        assert await is_possible(owner, "SELECT pgmq.create($1)", name) is (queue_name_problem(name) is None)


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
