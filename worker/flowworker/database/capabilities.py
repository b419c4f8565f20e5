"""What the database at the other end can do: one look at its catalogue, no version numbers.

pgflow 0.8 to 0.17 differ in their calls, pgmq may be an extension or plain SQL, and rights differ per role. A core
may be migrated beneath a worker: those that keep the answer use `Known`.
"""

import math
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from flowworker.database.connection import Connection
from flowworker.database.run_events import RunEventScope, scope_of
from flowworker.database.statements import load

LATE = 60.0
"""Seconds after which those who do it rarely look again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Features and rights found. False or 0 where the schema itself is missing."""

    role: str
    """The role that asked."""
    server_version: int
    """PostgreSQL's server_version_num, for example 150018."""
    in_recovery: bool
    """A standby: nothing can be written."""
    read_only: bool
    """Transactions are read-only, on a standby or by a setting."""

    pgmq: bool
    pgmq_extension: str | None
    """Version of the extension; None for an installation from plain SQL."""
    message_headers: bool
    """pgmq 1.5 or newer; nothing older works."""
    last_read_at: bool
    """Messages have the column `last_read_at`."""
    set_vt_batch: bool
    """pgmq.set_vt takes an array of message ids."""
    enable_notify_arity: int
    """Arguments of pgmq.enable_notify_insert: 0 missing, 1 without throttle, 2 with throttle."""
    notify_throttle: bool
    """The table pgmq.notify_insert_throttle exists."""

    pgflow: bool
    task_index: bool
    """Claims return the task's index: core 0.8 or newer; nothing older works."""
    claim_flow_input: bool
    """The run's input comes beside a step's (core 0.12 or newer), not within."""
    start_tasks_arity: int
    """Arguments of pgflow.start_tasks: 3 up to core 0.16, then 4 or 5."""
    own_map_tasks: bool
    """Our functions that start and complete tasks of maps exist, and the role may execute them."""
    step_output: bool
    """Step outputs are kept in step_states.output (core 0.13 or newer)."""
    skipping: bool
    """Steps can be skipped (core 0.14 or newer)."""
    cancelled_tasks: bool
    """Tasks can be cancelled and skipped (core 0.15.1 or newer)."""
    deprecated_at: bool
    stopped_at: bool
    """pgflow.workers has both `deprecated_at` and `stopped_at` (core 0.10 or newer)."""
    requeue_columns: bool
    """step_tasks counts requeues and marks permanent stalls (core 0.13.2 or newer)."""
    queue_columns: bool
    """steps and step_tasks name their queue (core 0.17 or newer)."""
    queue_mode: bool
    start_mode: bool
    pgflow_version: bool
    """pgflow.workers names the version of each worker's software (core 0.17.1 or newer)."""
    mark_worker_stopped: bool
    requeue_stalled_tasks: bool
    ensure_compiled_arity: int
    """Arguments of pgflow.ensure_flow_compiled; 0 before core 0.10."""
    flow_set_vt_batch: bool
    """pgflow.set_vt_batch exists; all cores we know have it."""

    realtime: bool
    """realtime.send exists, real or stub."""
    run_events: RunEventScope | None
    """What our stand-in for realtime.send announces on channel `pgflow`; None where it is missing or not ours."""
    cron: bool
    """A real pg_cron, so that pgflow's own jobs run."""
    own_columns: AbstractSet[str]
    """Columns of our schema as `table.column`; empty where it is missing."""

    can_create_queue: bool
    can_write_flows: bool
    can_work: bool
    """The role may claim and finish pgflow tasks."""
    can_track: bool
    """The role may register functions that start by themselves (core 0.15 or newer)."""
    can_notify: bool
    """The role may write the throttle row, as every insert does on a queue with notify."""
    can_report: bool
    """The role may write flowworker.workers."""
    denied_functions: Sequence[str]
    """Functions of pgflow, pgmq and realtime.send that the role may not execute, as `"schema"."name"(types)`; those
    that run with their owner's rights are left out."""

    @property
    def core(self) -> str | None:
        """The releases of pgflow's core that look like this one, in words; None without pgflow."""
        if not self.pgflow:
            return None
        features = {
            "0.17 or newer": self.queue_columns,
            "0.16": self.cancelled_tasks and self.ensure_compiled_arity == 2,
            "0.15": self.cancelled_tasks or self.start_mode,
            "0.14": self.skipping,
            "0.13": self.step_output,
            "0.12": self.claim_flow_input,
            "0.10 or 0.11": self.stopped_at,
            "0.8 or 0.9": self.task_index,
        }
        return next((name for name, present in features.items() if present), "older than 0.8")

    @property
    def own_schema(self) -> bool:
        """Whether our own tables exist."""
        return {"workers.worker_id", "drains.target", "ledger.name"} <= self.own_columns

    @property
    def begun_at(self) -> bool:
        """Whether workers record which of their claims have begun."""
        return "workers.begun_at" in self.own_columns

    @property
    def can_compile(self) -> bool:
        """Whether the role may create a flow: its rows and its queue."""
        return self.can_create_queue and self.can_write_flows

    @property
    def writable(self) -> bool:
        """Whether this server takes writes now."""
        return not (self.in_recovery or self.read_only)


async def detect(connection: Connection) -> Capabilities:
    """Read the catalogue; one round trip, a few milliseconds."""
    row = await connection.fetchrow(load("catalogue/capabilities"))
    assert row is not None
    values: dict[str, Any] = dict(row)
    own_columns = frozenset[str](values.pop("own_columns"))
    run_events = scope_of(values.pop("realtime_source"))
    return Capabilities(own_columns=own_columns, run_events=run_events, **values)


class Known:
    """What was found, for those who ask again and again: a core may be migrated at any time.

    All flows and queues of a process share one, because each look costs them a round trip.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet.

        Args:
            clock: monotonic seconds.
        """
        self._clock = clock
        self._found: Capabilities | None = None
        self._looked_at = -math.inf
        self._seen: WeakSet[Connection] = WeakSet()

    async def of(self, connection: Connection) -> Capabilities:
        """What was found last; looked at anew on a connection that has not asked before."""
        if self._found is None or connection not in self._seen:
            return await self.renew(connection)
        return self._found

    async def of_late(self, connection: Connection) -> Capabilities:
        """What was found within the last minute; looked at anew where that is longer ago."""
        if self._clock() - self._looked_at >= LATE:
            return await self.renew(connection)
        return await self.of(connection)

    async def renew(self, connection: Connection) -> Capabilities:
        """Look now."""
        self._found = await detect(connection)
        self._looked_at = self._clock()
        self._seen.add(connection)
        return self._found
