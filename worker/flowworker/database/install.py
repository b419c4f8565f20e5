"""Install pgmq, pgflow's core and our own schema where they are missing."""

from importlib.resources import files

from flowworker.database.connection import Connection

ADVISORY_LOCK = 0x666C6F77


async def install(connection: Connection) -> None:
    """Install everything that is missing."""
    upstream = files("flowworker.database") / "upstream"
    ours = files("flowworker.database") / "sql" / "install"
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)
        if not await connection.fetchval("SELECT to_regclass('pgmq.meta') IS NOT NULL"):
            await connection.execute((upstream / "pgmq" / "pgmq.sql").read_text())
        if not await connection.fetchval(
            "SELECT to_regprocedure('realtime.send(jsonb,text,text,boolean)') IS NOT NULL"
        ):
            await connection.execute((ours / "realtime_stub.sql").read_text())
        if not await connection.fetchval("SELECT to_regclass('pgflow.runs') IS NOT NULL"):
            migrations = sorted(
                (p for p in (upstream / "pgflow").iterdir() if p.name.endswith(".sql")), key=lambda p: p.name
            )
            for migration in migrations:
                lines = migration.read_text().splitlines()
                await connection.execute("\n".join(line for line in lines if not line.startswith("CREATE EXTENSION")))
        await connection.execute((ours / "flowworker.sql").read_text())
