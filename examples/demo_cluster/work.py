"""The demo's work: runs, a worker that is killed on purpose, and what the database says in the end."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from testkit.cluster.backend import Backend
from testkit.support.kube import PODS
from testkit.support.node import kill_worker

from examples.demo_cluster.flows import Site, site_report
from examples.demo_cluster.narrator import Narrator, Sight, View
from examples.demo_cluster.town import NAMESPACE, Town
from flowworker import Client
from flowworker.database.connection import Connection

PAGES = 3
"""Elements of each run's map."""
LOOK_EVERY = 0.5
PATIENCE = 240.0
"""Seconds for all runs and the way back to zero."""
STARTS_AT_ONCE = 4

DONE = """
    SELECT
        (SELECT count(*) FROM pgflow.runs WHERE status = 'completed') AS runs,
        (SELECT count(*) FROM pgflow.step_tasks WHERE status = 'completed') AS tasks
"""
HELD = """
    SELECT worker_id, array_agg(run_id || step_slug || task_index) AS tasks FROM flowworker.workers
    JOIN pgflow.step_tasks ON last_worker_id = worker_id AND step_tasks.status = 'started'
    WHERE pod_name = $1 GROUP BY worker_id
"""
ENDED = """
    SELECT
        count(*) FILTER (WHERE last_worker_id = $2) AS by_itself,
        count(*) FILTER (WHERE last_worker_id <> $2) AS by_others
    FROM pgflow.step_tasks
    WHERE run_id || step_slug || task_index = ANY($1) AND status = 'completed'
"""
"""By itself: those whose end was on its way to the database when it was killed."""
VERDICT = """
    SELECT
        (SELECT count(*) FROM pgflow.runs WHERE status = 'completed') AS runs,
        (SELECT count(*) FROM pgflow.runs WHERE status <> 'completed') AS lost_runs,
        (SELECT max(completed_at) - min(started_at) FROM pgflow.runs) AS took,
        count(*) FILTER (WHERE status = 'completed') AS tasks,
        count(*) FILTER (WHERE status <> 'completed') AS lost_tasks,
        max(attempts_count) AS attempts,
        min(completed_at) - (SELECT min(started_at) FROM pgflow.runs) AS first_after
    FROM pgflow.step_tasks
"""


@dataclass(slots=True, kw_only=True)
class Day:
    """One run of the demo, from the first run to the last."""

    town: Town
    cluster: Backend
    database: Connection
    runs: int
    most: int = 0
    """Workers seen at once."""
    killed: Mapping[str, Any] | None = None
    """Worker that was killed, and the tasks it held."""
    facts: dict[str, str] = field(default_factory=dict[str, str])

    async def start_runs(self, client: Client) -> None:
        """All of them, as a program would."""
        places = asyncio.Semaphore(STARTS_AT_ONCE)

        async def start(number: int) -> None:
            async with places:
                urls = [f"https://example.org/{number}/{page}" for page in range(PAGES)]
                await client.start(site_report, Site(urls=urls))

        async with asyncio.TaskGroup() as group:
            for number in range(self.runs):
                group.create_task(start(number))

    async def watch(self, narrator: Narrator) -> None:
        """Show what happens until everything is done and no worker is left; kill one on the way.

        Raises:
            TimeoutError: it took too long.
        """
        with narrator.live(self.runs * (PAGES + 2)) as view:
            async with asyncio.timeout(PATIENCE):
                while not await self._look(view):  # noqa: ASYNC110 - the cluster cannot call us
                    await asyncio.sleep(LOOK_EVERY)

    async def verdict(self) -> bool:
        """Fill the facts from the database; True if nothing was lost."""
        found = await self.database.fetchrow(VERDICT)
        assert found is not None
        self.facts |= {
            "runs completed": f"{found['runs']} of {self.runs}",
            "lost": f"{found['lost_runs']} runs, {found['lost_tasks']} tasks of {found['tasks'] + found['lost_tasks']}",
            "most attempts of a task": str(found["attempts"]),
            "first task done after": f"{found['first_after'].total_seconds():.1f} s, from zero workers",
            "last run done after": f"{found['took'].total_seconds():.1f} s",
            "workers": f"0 → {self.most} → 0",
        }
        if self.killed is not None:
            ended = await self.database.fetchrow(ENDED, self.killed["tasks"], self.killed["worker_id"])
            assert ended is not None
            by_itself = f"; its last word was the end of {ended['by_itself']}" if ended["by_itself"] else ""
            held = f"held {len(self.killed['tasks'])} tasks{by_itself}"
            self.facts["the killed worker"] = f"{held}; {ended['by_others']} were done by others"
        return (found["runs"], found["lost_runs"], found["lost_tasks"]) == (self.runs, 0, 0)

    async def _look(self, view: View) -> bool:
        resource = await self.town.read()
        done = await self.database.fetchrow(DONE)
        assert done is not None
        status: Mapping[str, Any] = resource.get("status", {})
        self.most = max(self.most, status.get("readyReplicas", 0))
        view.show(Sight(row=_row(resource), tasks=done["tasks"]))
        if self.killed is None and status.get("readyReplicas", 0) > 1 and status["queue"]["startable"]:
            await self._kill(view, status)
        return done["runs"] == self.runs and status.get("replicas") == 0

    async def _kill(self, view: View, status: Mapping[str, Any]) -> None:
        """Kill the busiest worker; what it held is seen afterwards, when it can finish nothing more."""
        workers = sorted(status["workers"].get("list", ()), key=lambda one: one.get("inFlight", 0))
        pod = await self.town.kube.get(PODS, NAMESPACE, workers[-1]["pod"]) if workers else None
        if pod is None:
            return
        await kill_worker(self.cluster, pod)
        held = await self.database.fetchrow(HELD, pod["metadata"]["name"])
        if held is not None:
            self.killed = dict(held)
            view.note(f"kill -9 of {pod['metadata']['name']}, which held {len(held['tasks'])} tasks")


def _row(resource: Mapping[str, Any]) -> tuple[str, ...]:
    """What `kubectl get flowworkers` prints of it."""
    status: Mapping[str, Any] = resource.get("status", {})
    queue: Mapping[str, Any] = status.get("queue", {})
    ready = next((one["reason"] for one in status.get("conditions", ()) if one["type"] == "Ready"), "")
    numbers = (status.get("scaling", {}).get("desired"), status.get("readyReplicas"))
    counts = (queue.get("startable"), queue.get("inFlight"))
    cells = ("" if number is None else str(number) for number in (*numbers, *counts))
    return (resource["metadata"]["name"], resource["spec"]["flow"], *cells, ready)
