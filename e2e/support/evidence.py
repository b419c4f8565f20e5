"""The history of a scenario on a cluster: the journal and the audit that lie in its database."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import orjson
from testkit.support import journal
from testkit.support.checker import Violation, check
from testkit.support.evidence import Evidence, Testimony
from testkit.support.history import Execution

from flowworker.database.connection import Connection
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue

JOURNAL = "SELECT *, extract(epoch FROM at) * 1000000000 AS nanoseconds FROM e2e.journal ORDER BY at"


async def judge(
    owner: Connection, workloads: Sequence[Flow | Queue], known: Testimony
) -> tuple[list[Violation], list[Execution]]:
    """What the checker says about all runs and jobs, and every execution there was."""
    with tempfile.TemporaryDirectory(prefix="flowworker-e2e-") as folder:
        evidence = Evidence(owner, Path(folder), workloads)
        await bring_home(owner, Path(folder))
        found = [violation for jobs in (False, True) for violation in check(await evidence.history(known, jobs=jobs))]
        return found, evidence.executions()


async def bring_home(owner: Connection, folder: Path) -> None:
    """Write the journal of a database as the journal of a folder, its times as this machine's monotonic clock."""
    ahead = time.time_ns() - time.monotonic_ns()
    entries = [
        journal.Entry(
            what=row["what"],
            execution=row["execution"],
            owner=row["owner"],
            step=row["step"],
            index=row["index"],
            attempt=row["attempt"],
            worker=row["worker"],
            pid=row["pid"],
            at=int(row["nanoseconds"]) - ahead,
        )
        for row in await owner.fetch(JOURNAL)
    ]
    lines = [orjson.dumps(asdict(entry)) + b"\n" for entry in entries]
    (folder / journal.JOURNAL).write_bytes(b"".join(lines))
