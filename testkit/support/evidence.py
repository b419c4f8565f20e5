"""Gathers a scenario's history from its witnesses."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from testkit.support import journal, recording
from testkit.support.history import Execution, Fault, History, Key

from flowworker.database.connection import Connection
from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue

RUNNING = frozenset({"queued", "started"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """What the test itself knows."""

    started: Collection[str]
    in_doubt: Collection[str]
    faults: Sequence[Fault]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a scenario left its traces."""

    owner: Connection
    folder: Path
    workloads: Sequence[Flow | Queue]
    roles: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names of worker processes by the role that only they use."""

    @property
    def queues(self) -> set[str]:
        """Names of the plain queues."""
        return {one.name for one in self.workloads if isinstance(one, Queue)}

    def executions(self) -> list[Execution]:
        """Every execution so far, oldest first."""
        entries = journal.read(self.folder)
        ends = {entry.execution: entry.at for entry in entries if entry.what == journal.END}
        return [
            Execution(
                id=entry.execution,
                key=Key(owner=entry.owner, step=entry.step, index=entry.index),
                attempt=entry.attempt,
                worker=entry.worker,
                began=entry.at,
                ended=ends.get(entry.execution),
            )
            for entry in entries
            if entry.what == journal.BEGIN
        ]

    async def history(self, known: Testimony, *, jobs: bool) -> History:
        """Everything about the runs, or about the jobs."""
        transitions = await recording.read(self.owner, await self._processes(), self.roles)
        return History(
            started={owner for owner in known.started if (":" in owner) is jobs},
            in_doubt=known.in_doubt,
            ends=await self.ends(),
            dependencies=self._dependencies(),
            executions=[one for one in self.executions() if (one.key.owner in self.queues) is jobs],
            transitions=[one for one in transitions if (one.key.owner in self.queues) is jobs],
            faults=known.faults,
            lives=[life for life in await recording.read_lives(self.owner) if (life.serves in self.queues) is jobs],
            messages=await self._messages(),
            charges=not jobs,
        )

    async def ends(self) -> Mapping[str, str]:
        """Status by run, and by job as `queue:id`; `started` while it has not ended."""
        runs = await self.owner.fetch("SELECT run_id, status FROM pgflow.runs")
        jobs = await self.owner.fetch(
            "SELECT DISTINCT ON (owner, index) owner, index, status FROM chaos.transitions "
            "WHERE owner = step ORDER BY owner, index, id DESC"
        )
        return {str(row["run_id"]): row["status"] for row in runs} | {
            f"{row['owner']}:{row['index']}": "started" if row["status"] in RUNNING else row["status"] for row in jobs
        }

    async def unfinished(self) -> list[dict[str, Any]]:
        """Some tasks that have not ended, for a person to look at."""
        rows = await self.owner.fetch(
            "SELECT run_id, step_slug, task_index, status, attempts_count, last_worker_id, started_at, error_message "
            "FROM pgflow.step_tasks WHERE status IN ('queued', 'started') LIMIT 10"
        )
        return [dict(row) for row in rows]

    async def _processes(self) -> dict[Any, str]:
        """Names of worker processes by worker id."""
        rows = await self.owner.fetch("SELECT worker_id, pod_name FROM flowworker.workers")
        return {row["worker_id"]: row["pod_name"] for row in rows}

    def _dependencies(self) -> dict[str, Collection[str]]:
        flows = [one for one in self.workloads if isinstance(one, Flow)]
        steps: dict[str, Collection[str]] = {
            slug: step.dependencies for flow in flows for slug, step in flow.steps.items()
        }
        return {**steps, **dict.fromkeys(self.queues, ())}

    async def _messages(self) -> set[str]:
        """Owners of the messages that are in a queue."""
        found: set[str] = set()
        for row in await self.owner.fetch("SELECT queue_name FROM pgmq.meta"):
            queue = row["queue_name"]
            for message in await self.owner.fetch(f"SELECT msg_id, message FROM pgmq.q_{queue}"):
                found.add(orjson.loads(message["message"]).get("run_id", f"{queue}:{message['msg_id']}"))
        return found
