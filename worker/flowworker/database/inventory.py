"""What a database holds before an installation, and whether we dare to touch it. Pure."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from flowworker.database.packaged import Component
from flowworker.database.run_events import RunEventScope, scope_of
from flowworker.errors import DatabaseUnavailableError, UnsupportedSchemaError

OLDEST_POSTGRESQL = 150000

OWN_COLUMNS = ("workers.worker_id", "workers.boot_id", "drains.target", "ledger.component", "ledger.checksum")

PGMQ_COLUMNS = ("meta.queue_name", *(f"message_record.{name}" for name in ("msg_id", "read_ct", "vt", "message")))
PGMQ_FUNCTIONS = ("create", "send", "read", "archive", "set_vt")

PGFLOW_COLUMNS = (
    "flows.flow_slug", "flows.opt_timeout", "steps.step_slug", "steps.step_type", "deps.dep_slug", "runs.run_id",
    "runs.status", "runs.remaining_steps", "step_states.status", "step_states.remaining_deps", "step_tasks.message_id",
    "step_tasks.attempts_count", "step_tasks.last_worker_id", "step_task_record.input", "workers.worker_id",
    "workers.last_heartbeat_at",
)  # fmt: skip
PGFLOW_FUNCTIONS = ("create_flow", "add_step", "start_flow", "start_tasks", "complete_task", "fail_task")
START_TASKS_ARITIES = (3, 4, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What lies in the schemas flowworker, pgflow, pgmq and realtime."""

    database: str
    role: str
    server_version: int
    read_only: bool
    pgmq_extension: str | None
    columns: AbstractSet[str]
    """`schema.table.column`, also of views and composite types; queue tables are left out."""
    functions: AbstractSet[str]
    """`schema.name(argument types)`."""
    realtime_source: str | None
    """Text of realtime.send; None where it is missing."""
    ledger: Mapping[tuple[str, str], str]
    """(component, file name) -> checksum."""

    @property
    def has_pgmq(self) -> bool:
        """Whether pgmq is there, as an extension or from its SQL."""
        return self.pgmq_extension is not None or "pgmq.meta.queue_name" in self.columns

    @property
    def has_realtime(self) -> bool:
        """Whether the function exists that pgflow announces every change with."""
        return "realtime.send(jsonb, text, text, boolean)" in self.functions

    @property
    def run_events(self) -> RunEventScope | None:
        """What our stand-in for that function announces; None where it is missing or not ours."""
        return scope_of(self.realtime_source)

    @property
    def has_pgflow(self) -> bool:
        """Whether pgflow's core is there in 0.8 or newer, complete. Core 0.8's last file drops read_with_poll."""
        return "pgflow.step_task_record.task_index" in self.columns and not self.arities("pgflow.read_with_poll")

    def holds(self, schema: str, name: str) -> bool:
        """Whether a schema has a table, type or function of this name."""
        return any(one.startswith(f"{schema}.{name}.") for one in self.columns) or bool(
            self.arities(f"{schema}.{name}")
        )

    def has(self, component: Component) -> bool:
        """Whether a component is there."""
        match component:
            case Component.FLOWWORKER:
                return not self.missing_columns("flowworker", OWN_COLUMNS)
            case Component.PGMQ:
                return self.has_pgmq
            case Component.REALTIME:
                return self.has_realtime
            case Component.PGFLOW:
                return self.has_pgflow

    def describe(self, component: Component) -> str:
        """Where a component that is kept came from."""
        if component is Component.PGMQ and self.pgmq_extension is not None:
            return f"extension {self.pgmq_extension}"
        if component is Component.REALTIME and self.has_realtime:
            scope = self.run_events
            return "not ours, so left alone" if scope is None else f"our stand-in, announces: {scope}"
        ours = any(noted == component for noted, _ in self.ledger)
        return "installed by flowworker earlier" if ours else "not installed by flowworker"

    def is_empty(self, schema: str) -> bool:
        """Whether a schema holds nothing, or does not exist."""
        return not any(name.startswith(f"{schema}.") for name in (*self.columns, *self.functions))

    def missing_columns(self, schema: str, columns: Iterable[str]) -> list[str]:
        """Columns that a schema lacks."""
        return [name for name in columns if f"{schema}.{name}" not in self.columns]

    def arities(self, function: str) -> set[int]:
        """How many arguments the overloads of `schema.name` take."""
        found = (name[len(function) + 1 : -1] for name in self.functions if name.startswith(f"{function}("))
        return {len(arguments.split(", ")) if arguments else 0 for arguments in found}


def refuse_unknown(inventory: Inventory, only: Component | None) -> None:
    """Check that we recognise all that an installation would build on.

    Raises:
        UnsupportedSchemaError: what was found, and what to do.
        DatabaseUnavailableError: the server takes no writes.
    """
    if inventory.read_only:
        raise DatabaseUnavailableError(
            "this server is a standby or read-only: connect to the primary, for example with "
            "target_session_attrs=read-write"
        )
    if inventory.server_version < OLDEST_POSTGRESQL:
        raise UnsupportedSchemaError(
            f"found PostgreSQL {inventory.server_version // 10000}: FlowWorker needs PostgreSQL 15 or newer"
        )
    if only in (None, Component.PGFLOW):
        _check_dropped(inventory)
    checks = {
        Component.FLOWWORKER: _check_own,
        Component.PGMQ: _check_pgmq,
        Component.REALTIME: _check_nothing,
        Component.PGFLOW: _check_pgflow,
    }
    for component, check in checks.items():
        if only in (None, component) and not inventory.is_empty(component):
            check(inventory)


def _check_own(inventory: Inventory) -> None:
    missing = inventory.missing_columns("flowworker", OWN_COLUMNS)
    if missing:
        raise UnsupportedSchemaError(
            f"schema flowworker in database {inventory.database!r} is not ours: it has no {', '.join(missing)}. "
            "Rename or drop that schema, or install into another database."
        )


def _check_pgmq(inventory: Inventory) -> None:
    missing = [
        *inventory.missing_columns("pgmq", PGMQ_COLUMNS),
        *(f"{name}()" for name in PGMQ_FUNCTIONS if not inventory.arities(f"pgmq.{name}")),
    ]
    if missing:
        raise UnsupportedSchemaError(
            f"schema pgmq holds something that is not pgmq as we know it: it has no {', '.join(missing)}. "
            "Drop it if it is a leftover, or install into another database."
        )
    if inventory.missing_columns("pgmq", ["message_record.headers"]):
        version = f" (extension {inventory.pgmq_extension})" if inventory.pgmq_extension else ""
        raise UnsupportedSchemaError(
            f"found a pgmq older than 1.5.0{version}: its messages have no headers. Upgrade it first, for example "
            "with ALTER EXTENSION pgmq UPDATE."
        )


def _check_pgflow(inventory: Inventory) -> None:
    if not inventory.has_pgflow:
        _check_resumable(inventory)
        return
    missing = [
        *inventory.missing_columns("pgflow", PGFLOW_COLUMNS),
        *(f"{name}()" for name in PGFLOW_FUNCTIONS if not inventory.arities(f"pgflow.{name}")),
    ]
    if missing:
        raise UnsupportedSchemaError(
            f"schema pgflow is not a pgflow core as we know it: it has no {', '.join(missing)}. Use a core from 0.8 "
            "to 0.17, or install into another database."
        )
    arities = inventory.arities("pgflow.start_tasks")
    if not arities & set(START_TASKS_ARITIES):
        raise UnsupportedSchemaError(
            f"pgflow.start_tasks takes {max(arities)} arguments: this core is newer than the ones FlowWorker knows "
            "(0.8 to 0.17). Upgrade FlowWorker."
        )


def _check_resumable(inventory: Inventory) -> None:
    if any(component == Component.PGFLOW for component, _ in inventory.ledger):
        return
    if inventory.missing_columns("pgflow", ["runs.run_id", "step_tasks.message_id"]):
        raise UnsupportedSchemaError(
            "schema pgflow exists but is no pgflow core: it has no tables runs and step_tasks as pgflow has them. "
            "Drop it if it is a leftover, or install into another database."
        )
    raise UnsupportedSchemaError(
        "found a pgflow core older than 0.8, or one whose migrations stopped half-way. Bring it to 0.8 or newer with "
        "the tool that installed it, then run this again."
    )


def _check_dropped(inventory: Inventory) -> None:
    if inventory.is_empty("pgflow") and any(component == Component.PGFLOW for component, _ in inventory.ledger):
        raise UnsupportedSchemaError(
            "the ledger says that pgflow was installed, but schema pgflow is gone. To install it anew, run first: "
            "DELETE FROM flowworker.ledger WHERE component = 'pgflow'"
        )


def _check_nothing(inventory: Inventory) -> None:
    """No check: adding the function that pgflow calls is harmless, regardless of who owns schema realtime."""
