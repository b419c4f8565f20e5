"""Specs, pods and snapshots for tests of decisions."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from flowworker_operator.api.spec import FlowWorkerSpec
from flowworker_operator.api.status import Condition, FlowWorkerStatus
from flowworker_operator.domain.memory import seeded
from flowworker_operator.domain.plan import Plan
from flowworker_operator.domain.planner import make_plan
from flowworker_operator.domain.snapshot import (
    BudgetState,
    Claim,
    DatabaseState,
    Demand,
    DrainRequest,
    Moment,
    PodState,
    Report,
    RevisionState,
    Snapshot,
    WorkerState,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TICK = 1000.0
ME = Claim(namespace="shop", name="report", uid="1", created_at=NOW - timedelta(days=1), kind="flow", slug="report")
NAME = "report-aaaa"


def manifest(**changes: Any) -> dict[str, Any]:
    """The spec of a small resource, as a user writes it."""
    return {
        "flow": "report",
        "handler": "app.flows:report",
        "image": "registry.example/report:1",
        "database": {"secretRef": {"name": "postgres-app"}},
        **changes,
    }


def make_spec(**changes: Any) -> FlowWorkerSpec:
    return FlowWorkerSpec.model_validate(manifest(**changes))


def report(state: WorkerState = WorkerState.RUNNING, in_flight: int = 0, **changes: Any) -> Report:
    return replace(Report(state=state, kind="flow", slug="report", in_flight=in_flight), **changes)


def pod(name: str, **changes: Any) -> PodState:
    """A ready pod whose worker reports."""
    created = NOW - timedelta(minutes=10)
    return replace(PodState(name=name, uid=f"uid-{name}", created_at=created, ready=True, report=report()), **changes)


def drained(name: str, **changes: Any) -> PodState:
    return pod(name, report=report(WorkerState.DRAINED), drain=DrainRequest(age=5), **changes)


def revision(*pods: PodState, **changes: Any) -> RevisionState:
    """A proven revision with as many replicas as pods."""
    base = RevisionState(
        name=NAME,
        revision="aaaa",
        resource_version="7",
        created_at=NOW - timedelta(hours=1),
        replicas=len(pods),
        proven=True,
        grace=75,
        pods=pods,
    )
    return replace(base, **changes)


def snapshot(*revisions: RevisionState, demand: Demand | None = None, **changes: Any) -> Snapshot:
    """A healthy moment: the database was read just now."""
    base = Snapshot(
        at=Moment(wall=NOW, tick=TICK),
        claim=ME,
        generation=1,
        spec=make_spec(),
        database=DatabaseState(demand=demand or Demand(), age=0, longest_timeout=60),
        target="aaaa",
        revisions=revisions,
        budget=BudgetState(exists=True),
    )
    return replace(base, **changes)


def held(before: Snapshot, count: int) -> Snapshot:
    """The same moment with an operator that has wanted `count` workers until now."""
    return replace(before, memory=seeded(before.spec.scaling.mode, count, before.at.tick))


def condition(plan: Plan, kind: str) -> Condition:
    assert plan.status is not None
    return next(one for one in plan.status.conditions if one.type == kind)


def stored(status: FlowWorkerStatus | None) -> FlowWorkerStatus:
    """A status as the API server gives it back."""
    assert status is not None
    return FlowWorkerStatus.model_validate_json(status.model_dump_json(by_alias=True, exclude_none=True))


def later(before: Snapshot, plan: Plan, seconds: float = 5) -> Snapshot:
    """The next moment, with the status and the memory of a plan and nothing else changed."""
    at = Moment(wall=before.at.wall + timedelta(seconds=seconds), tick=before.at.tick + seconds)
    status = before.status if plan.status is None else stored(plan.status)
    written = before.status_written_at if plan.status is None else before.at.tick
    return replace(before, at=at, status=status, status_written_at=written, memory=plan.memory)


def event_reasons(plan: Plan) -> Sequence[str]:
    return [event.reason for event in plan.events]


def planned(*revisions: RevisionState, **changes: Any) -> Plan:
    return make_plan(snapshot(*revisions, **changes))
