"""A kubelet whose pods have no process: each is ready at once, and reports as an idle or a busy worker would.

Two hundred real workers are too much for one machine, and their own cost is not what is measured here.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from tests.control_plane.process_kubelet import Object, ProcessKubelet
from tests.control_plane.process_pod import WORKER

from flowworker.database.connection import Connection
from flowworker_operator.domain.naming import NAME_LABEL, SLUG_ANNOTATIONS

SLOTS = 10
LOOK_EVERY = 0.2

BEAT = """
    WITH alive AS (
        SELECT *
        FROM jsonb_to_recordset($1::jsonb)
            AS r(uid uuid, name text, namespace text, flowworker text, kind text, slug text)
    ),
    ended AS (
        UPDATE flowworker.workers
        SET state = 'stopped'
        WHERE state NOT IN ('stopped', 'lost') AND worker_id NOT IN (SELECT uid FROM alive)
    ),
    told AS (
        SELECT alive.*, EXISTS (
            SELECT FROM flowworker.drains AS d WHERE d.target = alive.uid::text AND d.until > clock_timestamp()
        ) AS drains
        FROM alive
    )
    INSERT INTO flowworker.workers AS w (
        worker_id, boot_id, kind, slug, worker_name, namespace, flowworker, pod_name, pod_uid, version, slots,
        state, in_flight
    )
    SELECT
        uid, uid, kind, slug, name, namespace, flowworker, name, uid::text, '0', $2,
        CASE WHEN drains THEN 'drained' ELSE 'running' END,
        CASE WHEN $3 AND NOT drains THEN floor(random() * ($2 + 1)) ELSE 0 END
    FROM told
    ON CONFLICT (worker_id) DO UPDATE SET
        state = excluded.state, in_flight = excluded.in_flight, reported_at = clock_timestamp()
    WHERE w.state <> 'lost' AND (
        (w.state, w.in_flight) <> (excluded.state, excluded.in_flight)
        OR w.reported_at < clock_timestamp() - interval '2 seconds'
    )
"""
"""Every pod's row, written when it has changed and otherwise every two seconds."""


@dataclass(slots=True, kw_only=True)
class StandInKubelet(ProcessKubelet):
    """Plays the pods of a namespace, all of whose FlowWorkers use one database."""

    database: Connection
    """Of its owner alone."""
    busy: bool = False
    """Whether workers report another number of running tasks at each look."""

    def check(self) -> None:
        """Raise what has ended its work, if anything has."""
        for task in self._loops:
            if task.done():
                task.result()

    async def _work(self) -> None:
        while True:
            listed = await self._quietly("GET", self._path(""))
            if listed is not None:
                await asyncio.gather(*map(self._settle, listed["items"]))
                await self._report(listed["items"])
            await asyncio.sleep(LOOK_EVERY)

    async def _settle(self, pod: Object) -> None:
        """One look at a pod: let it begin, or go."""
        if "deletionTimestamp" in pod["metadata"]:
            await self._end(pod)
            return
        if "nodeName" not in pod["spec"]:
            await self._see(pod)
        if pod["status"]["phase"] == "Pending":
            place = self._path(f"/{pod['metadata']['name']}/status")
            await self._quietly("PATCH", place, {"status": _ready(pod)})

    async def _report(self, pods: Iterable[Object]) -> None:
        running = [_row(pod) for pod in pods if _runs(pod)]
        await self.database.execute(BEAT, orjson.dumps(running), SLOTS, self.busy)


def _runs(pod: Object) -> bool:
    return pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]


def _row(pod: Object) -> dict[str, str]:
    metadata = pod["metadata"]
    kind = next(kind for kind, annotation in SLUG_ANNOTATIONS.items() if annotation in metadata["annotations"])
    return {
        "uid": metadata["uid"],
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "flowworker": metadata["labels"][NAME_LABEL],
        "kind": kind,
        "slug": metadata["annotations"][SLUG_ANNOTATIONS[kind]],
    }


def _ready(pod: Object) -> Object:
    began: str = pod["metadata"]["creationTimestamp"]
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    container: dict[str, Any] = {
        "name": WORKER,
        "image": "",
        "imageID": "",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": began}},
    }
    return {
        "phase": "Running",
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": began} for kind in kinds],
        "containerStatuses": [container],
    }
