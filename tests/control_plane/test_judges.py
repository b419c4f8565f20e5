"""Tools that show the health of a FlowWorker read it rightly: kstatus (Flux, Helm), and Argo CD with our script."""

import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from lupa.lua51 import LuaRuntime
from testkit.cluster.binaries import build
from tests.unit.operator.samples import NOW, make_spec, planned, pod, revision

from flowworker_operator.api.conditions import Reason
from flowworker_operator.domain.plan import Plan
from flowworker_operator.domain.snapshot import ContainerState, DatabaseState, Demand, Fault, RevisionState

pytestmark = pytest.mark.control_plane

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "kubernetes" / "argocd-health.lua"
GENERATION = 1
UNREACHABLE = DatabaseState(fault=Fault(reason=Reason.DATABASE_UNREACHABLE, message="connection refused"))
OLD = {"created_at": NOW - timedelta(hours=2)}


def new(**changes: Any) -> RevisionState:
    """A revision that has not proven itself, with one pod that does not report."""
    fresh = replace(pod("new", ready=False), report=None, created_at=NOW)
    return replace(revision(fresh, proven=False, created_at=NOW), **changes)


def broken(seconds: int) -> RevisionState:
    """A revision whose pod cannot import its handler, for so long."""
    ended = ContainerState(name="worker", restarts=3, exit_code=66, ended_message="no module named app")
    crashing = replace(pod("new", ready=False), report=None, containers=(ended,), created_at=NOW)
    return revision(crashing, proven=False, created_at=NOW - timedelta(seconds=seconds))


SITUATIONS: dict[str, tuple[Plan, str, str]] = {
    "workers run": (planned(revision(pod("a")), demand=Demand(in_flight=3)), "Current", "Healthy"),
    "nothing to do": (planned(revision()), "Current", "Healthy"),
    "workers start": (planned(revision(), demand=Demand(startable=9)), "Current", "Healthy"),
    "just applied": (planned(), "InProgress", "Progressing"),
    "a new revision proves itself": (planned(new()), "InProgress", "Progressing"),
    "the old workers are being replaced": (
        planned(revision(pod("old"), name="report-bbbb", revision="bbbb"), revision(pod("a"))),
        "InProgress",
        "Progressing",
    ),
    "the handler does not import": (planned(broken(5)), "Failed", "Degraded"),
    "the revision did not prove itself in time": (planned(broken(3600)), "Failed", "Degraded"),
    "the database is away": (planned(revision(pod("a")), database=UNREACHABLE), "InProgress", "Progressing"),
    "paused at zero": (planned(revision(), spec=make_spec(scaling={"mode": "Paused"})), "Current", "Suspended"),
}


def resource(plan: Plan, *, generation: int = GENERATION) -> dict[str, Any]:
    """A FlowWorker with the status of a plan."""
    assert plan.status is not None
    return {
        "apiVersion": "flowworker.dev/v1alpha1",
        "kind": "FlowWorker",
        "metadata": {"name": "report", "namespace": "shop", "generation": generation},
        "status": plan.status.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def kstatus(*resources: dict[str, Any]) -> list[str]:
    program = build(["kstatus"])["kstatus"]
    done = subprocess.run([program], input=orjson.dumps(resources), capture_output=True, check=True, timeout=30)
    return [verdict["status"] for verdict in orjson.loads(done.stdout)]


def argo(found: dict[str, Any]) -> str:
    lua: Any = LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(found, recursive=True)
    return lua.execute(SCRIPT.read_text())["status"]


def test_flux_and_helm_read_every_situation() -> None:
    found = kstatus(*(resource(plan) for plan, _, _ in SITUATIONS.values()))
    assert dict(zip(SITUATIONS, found, strict=True)) == {name: wanted for name, (_, wanted, _) in SITUATIONS.items()}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_argo_cd_reads_every_situation(situation: str) -> None:
    plan, _, wanted = SITUATIONS[situation]
    assert argo(resource(plan)) == wanted


def test_a_change_that_no_controller_has_seen_yet_is_in_progress() -> None:
    unseen = resource(planned(revision(pod("a"))), generation=GENERATION + 1)
    assert kstatus(unseen) == ["InProgress"]
    assert argo(unseen) == "Progressing"
