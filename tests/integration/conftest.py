"""What tests of the client and of the command line read: a flow and a queue that are in the database."""

import pytest

from flowworker.database.connection import Connection


@pytest.fixture
async def shop(owner: Connection) -> str:
    """A flow of two steps, the second a map over the first."""
    await owner.execute("""
        SELECT pgflow.create_flow('shop', max_attempts => 1);
        SELECT pgflow.add_step('shop', 'items');
        SELECT pgflow.add_step('shop', 'pack', ARRAY['items'], step_type => 'map');
    """)
    return "shop"


@pytest.fixture
async def mail(owner: Connection) -> str:
    """A plain queue."""
    await owner.execute("SELECT pgmq.create('mail')")
    return "mail"
