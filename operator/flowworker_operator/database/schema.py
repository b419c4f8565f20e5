"""Whether a database holds what a FlowWorker needs: a chain of small checks over what its catalogue shows. Pure."""

from collections.abc import Callable, Iterable

from flowworker.database.capabilities import Capabilities
from flowworker_operator.api.conditions import Reason
from flowworker_operator.domain.snapshot import Fault

OLDEST_POSTGRESQL = 150000
KNOWN_ARITIES = frozenset({3, 4, 5})
"""Arguments of pgflow.start_tasks in the cores that a worker can claim from."""

NEEDED = frozenset(
    f"{table}.{column}"
    for table, columns in {
        "workers": (
            "worker_id",
            "boot_id",
            "namespace",
            "flowworker",
            "pod_uid",
            "state",
            "reported_at",
            "longest_timeout",
        ),
        "drains": ("target", "until", "created_at", "created_by"),
    }.items()
    for column in columns
)
"""Columns of our own schema that are read or written here."""

INSTALL = "run `flowworker db install` as the owner of the database"

Check = Callable[[Capabilities], Fault | None]


def schema_fault(features: Capabilities, kind: str) -> Fault | None:
    """What is missing or unsupported for a flow or a queue; None when all is there."""
    checks: Iterable[Check] = (_server, _pgmq, _own, *((_pgflow,) if kind == "flow" else ()))
    return next((fault for check in checks if (fault := check(features))), None)


def _server(features: Capabilities) -> Fault | None:
    if features.server_version >= OLDEST_POSTGRESQL:
        return None
    found = features.server_version // 10000
    return _unsupported(f"found PostgreSQL {found}: FlowWorker needs PostgreSQL 15 or newer")


def _pgmq(features: Capabilities) -> Fault | None:
    if not features.pgmq:
        return _missing("the database has no pgmq")
    if features.message_headers:
        return None
    extension = f" (extension {features.pgmq_extension})" if features.pgmq_extension else ""
    advice = "upgrade it, for example with ALTER EXTENSION pgmq UPDATE"
    return _unsupported(f"found a pgmq older than 1.5.0{extension}, whose messages have no headers: {advice}")


def _own(features: Capabilities) -> Fault | None:
    lacking = sorted(NEEDED - features.own_columns)
    if not lacking:
        return None
    if not features.own_columns:
        return _missing("the database has no schema flowworker")
    return _missing(f"schema flowworker is older than this operator, it lacks {', '.join(lacking)}")


def _pgflow(features: Capabilities) -> Fault | None:
    if not features.pgflow:
        return _missing("the database has no pgflow")
    if not features.task_index:
        return _unsupported(
            f"found a pgflow core {features.core or 'that is not known'}: bring it to 0.8 or newer with the tool that "
            "installed it"
        )
    if features.start_tasks_arity in KNOWN_ARITIES:
        return None
    return _unsupported(
        f"found a pgflow core whose start_tasks takes {features.start_tasks_arity} arguments: FlowWorker knows the "
        "cores 0.8 to 0.17; upgrade FlowWorker"
    )


def _missing(what: str) -> Fault:
    return Fault(reason=Reason.SCHEMA_MISSING, message=f"{what}: {INSTALL}")


def _unsupported(message: str) -> Fault:
    return Fault(reason=Reason.SCHEMA_UNSUPPORTED, message=message)
