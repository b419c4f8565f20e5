from flowworker.database.connection import Connection
from flowworker.database.install import install


async def test_install_is_idempotent(owner: Connection) -> None:
    await install(owner)
    assert await owner.fetchval("SELECT to_regclass('pgflow.runs') IS NOT NULL")
