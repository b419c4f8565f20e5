"""One namespace with everything real in it but the node: API server, operator process, workers, PostgreSQL."""

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from testkit.cluster.api import MERGE, fetch
from testkit.cluster.control_plane import ControlPlane
from testkit.cluster.errors import ApiError
from testkit.support import journal
from testkit.support.history import Fault
from testkit.support.waiting import PATIENCE, until
from tests.chaos.ground import Ground
from tests.control_plane.operator_process import LEASE, OperatorProcess
from tests.control_plane.process_kubelet import ProcessKubelet

FLOWWORKERS = "/apis/flowworker.dev/v1alpha1/namespaces/{namespace}/flowworkers"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{namespace}/deployments"
PODS = "/api/v1/namespaces/{namespace}/pods"
SECRETS = "/api/v1/namespaces/{namespace}/secrets"
EVENTS = "/api/v1/namespaces/{namespace}/events"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
BUDGETS = "/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"

SECRET = "postgres-app"
QUICK = {"minPollIntervalMilliseconds": 50, "maxPollIntervalMilliseconds": 250}
SHORT = {"idleSecondsBeforeZero": 1, "scaleDownWindowSeconds": 2}
"""Windows that tests can wait for."""

WRITING = frozenset({"create", "update", "patch", "delete", "deletecollection"})
LEASED = """
    SELECT w.pod_name
    FROM flowworker.drains AS d JOIN flowworker.workers AS w ON w.pod_uid = d.target
    WHERE d.until > clock_timestamp() AND w.state NOT IN ('stopped', 'lost')
"""
GIVEN_BACK_WITHIN = 10.0
"""Seconds; without the operator it would take the others at least 10 to find a worker dead."""

Object = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class World:
    """What a test of the operator acts on."""

    control_plane: ControlPlane
    namespace: str
    ground: Ground
    kubelet: ProcessKubelet
    folder: Path
    operators: list[OperatorProcess] = field(default_factory=list[OperatorProcess])

    @property
    def operator(self) -> OperatorProcess:
        """The first operator."""
        return self.operators[0]

    def another_operator(self, identity: str, **settings: str) -> OperatorProcess:
        """One more operator of this namespace, not started yet."""
        made = OperatorProcess(
            control_plane=self.control_plane,
            namespace=self.namespace,
            folder=self.folder,
            name=identity,
            settings=settings,
        )
        self.operators.append(made)
        return made

    # Requests, as the admin

    async def request(
        self, method: str, place: str, body: Object | None = None, kind: str = "application/json"
    ) -> Object:
        """Any request; `{namespace}` in the place is filled in."""
        path = place.format(namespace=self.namespace)
        return await asyncio.to_thread(self.control_plane.api.request, method, path, body, kind)

    async def raw(self, method: str, place: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Any request, and its answer as it comes, for what this side cannot read either."""
        api = self.control_plane.api
        return await asyncio.to_thread(
            fetch, api.server + place.format(namespace=self.namespace), method, api.context, body
        )

    async def list(self, place: str) -> Sequence[Object]:
        """All objects of a kind in this namespace."""
        return (await self.request("GET", place))["items"]

    async def find(self, place: str, name: str) -> Object | None:
        """An object, or None where there is none."""
        path = f"{place}/{name}".format(namespace=self.namespace)
        return await asyncio.to_thread(self.control_plane.api.find, path)

    async def patch(self, place: str, name: str, patch: Object) -> Object:
        """Merge into an object, as another field manager than the operator."""
        return await self.request("PATCH", f"{place}/{name}?fieldManager=test", patch, MERGE)

    async def delete(self, place: str, name: str) -> None:
        """Delete an object."""
        await asyncio.to_thread(self.control_plane.api.delete, f"{place}/{name}".format(namespace=self.namespace))

    async def apply(self, name: str, **spec: Any) -> Object:
        """Apply a FlowWorker, as `kubectl apply --server-side` does."""
        path = f"{FLOWWORKERS}/{name}".format(namespace=self.namespace)
        return await asyncio.to_thread(self.control_plane.api.apply, path, manifest(name, **spec))

    async def secret(self, dsn: str | None = None, *, name: str = SECRET, key: str = "uri") -> None:
        """Create or change a Secret with a connection string; the workers' own unless given."""
        text = self.ground.database.worker_dsn if dsn is None else dsn
        content = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                   "data": {key: base64.b64encode(text.encode()).decode()}}  # fmt: skip
        await self.delete(SECRETS, name)
        await self.request("POST", SECRETS, content)

    # What there is

    async def flowworker(self, name: str) -> Object:
        """A FlowWorker."""
        found = await self.find(FLOWWORKERS, name)
        assert found is not None
        return found

    async def condition(self, name: str, kind: str) -> Object:
        """One condition; empty when there is none of this type."""
        nothing: Object = {}
        conditions = (await self.flowworker(name)).get("status", nothing).get("conditions", ())
        return next((one for one in conditions if one["type"] == kind), nothing)

    async def deployments(self, name: str) -> Sequence[Object]:
        """The Deployments of a FlowWorker."""
        return await self.list(f"{DEPLOYMENTS}?labelSelector=flowworker.dev/name={name}")

    async def replicas(self, name: str) -> int:
        """Replicas asked for, of all revisions together."""
        return sum(one["spec"]["replicas"] for one in await self.deployments(name))

    # Patience

    async def until_condition(
        self, name: str, kind: str, status: str, *reasons: str, patience: float = PATIENCE
    ) -> Object:
        """The condition once it has this status, and one of the reasons if any are given."""

        async def met() -> Object | None:
            found = await self.condition(name, kind)
            right = found.get("status") == status and (not reasons or found["reason"] in reasons)
            return found if right else None

        wanted = f"{kind}={status} {'/'.join(reasons)}"
        return await self._until(met, f"{name} has {wanted}", patience)

    async def until_replicas(self, name: str, count: int, *, patience: float = PATIENCE) -> None:
        """Wait for so many replicas asked for."""

        async def met() -> bool:
            return await self.replicas(name) == count

        await self._until(met, f"{name} has {count} replicas", patience)

    async def until_idle(self, name: str, *, patience: float = PATIENCE) -> None:
        """Wait until it is Ready with no worker at all."""
        await self.until_condition(name, "Ready", "True", "Idle", patience=patience)

        async def empty() -> bool:
            return not await self.list(f"{PODS}?labelSelector=flowworker.dev/name={name}")

        await self._until(empty, f"{name} has no pods", patience)

    async def _until(self, condition: Any, what: str, patience: float) -> Any:
        try:
            return await until(condition, what, patience=patience)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await self.report()}") from None

    async def until_pods(self, name: str, expected: set[str], *, patience: float = PATIENCE) -> None:
        """Wait until exactly these pods exist."""

        async def met() -> bool:
            pods = await self.list(f"{PODS}?labelSelector=flowworker.dev/name={name}")
            return {pod["metadata"]["name"] for pod in pods} == expected

        await self._until(met, f"the pods of {name} are {expected or 'gone'}", patience)

    async def until_pods_of(self, names: Sequence[str]) -> Sequence[str]:
        """The pods of FlowWorkers, once each has one."""

        async def met() -> list[str] | None:
            pods = await self.list(PODS)
            owners = {pod["metadata"]["labels"]["flowworker.dev/name"]: pod["metadata"]["name"] for pod in pods}
            return [owners[name] for name in names] if owners.keys() >= set(names) else None

        return await self._until(met, f"{names} have pods", PATIENCE)

    async def until_replaced(self, pod: str) -> None:
        """Wait until the API server knows a pod no more and another one runs in its place."""

        async def met() -> bool:
            pods = {one["metadata"]["name"]: one for one in await self.list(PODS)}
            wanted = sum(one["spec"]["replicas"] for one in await self.list(DEPLOYMENTS))
            return pod not in pods and sum(map(_is_ready, pods.values())) == wanted

        await self._until(met, f"{pod} is replaced", PATIENCE)

    async def until_deleting(self, name: str) -> None:
        """Wait until the pods are being deleted."""

        async def met() -> bool:
            pods = await self.list(f"{PODS}?labelSelector=flowworker.dev/name={name}")
            return bool(pods) and all("deletionTimestamp" in pod["metadata"] for pod in pods)

        await self._until(met, f"the pods of {name} are being deleted", PATIENCE)

    async def until_draining(self, count: int) -> Sequence[str]:
        """The pods that are asked to drain, once there are so many."""

        async def met() -> list[str] | None:
            rows = await self.ground.owner.fetch(LEASED)
            found = [row["pod_name"] for row in rows]
            return [*found, ""] if len(found) == count else None

        found: list[str] = await self._until(met, f"{count} pods drain", PATIENCE)
        return found[:-1]

    async def until_deployment(self, name: str, met: Callable[[Object], bool]) -> Object:
        """A Deployment once it is as wanted."""

        async def right() -> Object | None:
            found = await self.find(DEPLOYMENTS, name)
            return found if found is not None and met(found) else None

        return await self._until(right, f"deployment {name} is as wanted", PATIENCE)

    async def until_flowworker(self, name: str, met: Callable[[Object], bool], what: str) -> Object:
        """A FlowWorker once it is as wanted."""

        async def right() -> Object | None:
            found = await self.flowworker(name)
            return found if met(found) else None

        return await self._until(right, f"{name} has {what}", PATIENCE)

    async def until_found(self, place: str, name: str) -> Object:
        """An object once it exists."""

        async def found() -> Object | None:
            return await self.find(place, name)

        return await self._until(found, f"{name} exists", PATIENCE)

    async def until_created(self, place: str, manifest: Object) -> None:
        """Create an object, as soon as its name is free."""

        async def created() -> bool:
            try:
                await self.request("POST", place, manifest)
            except ApiError as error:
                if error.status != HTTPStatus.CONFLICT:
                    raise
                return False
            return True

        await self._until(created, f"{manifest['metadata']['name']} is created", PATIENCE)

    async def until_metrics(self, met: Callable[[Mapping[str, float]], bool]) -> None:
        """Wait until the metrics are as wanted."""
        await self._until(lambda: met(self.metrics()), "the metrics are as wanted", PATIENCE)

    # What the operators do

    def audited(self, user: str) -> Sequence[Object]:
        """Requests of a user."""
        return [one for one in self.control_plane.audited() if one["user"]["username"] == user]

    def writes(self, user: str) -> Sequence[str]:
        """What a user has written, Leases aside."""
        return [
            f"{one['verb']} {one['requestURI']}"
            for one in self.audited(user)
            if one["verb"] in WRITING and one["objectRef"]["resource"] != "leases"
        ]

    def writers(self) -> set[str]:
        """Operators of this namespace that have written."""
        return {operator.user for operator in self.operators if self.writes(operator.user)}

    def holder(self) -> str:
        """Who holds the Lease of the operators."""
        lease = self.control_plane.api.find(f"{LEASES.format(namespace=self.namespace)}/{LEASE}")
        return "" if lease is None else lease["spec"].get("holderIdentity") or ""

    def metrics(self) -> Mapping[str, float]:
        """Samples of the first operator, by name and labels."""
        _, text = self.operator.get("/metrics")
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return {_named(sample.name, sample.labels): sample.value for sample in samples}

    async def lose_pod(self, name: str) -> None:
        """Kill the worker of a pod and remove the pod, as when a node dies and is given up."""
        pod = next(one for one in self.kubelet.pods.values() if one.name == name)
        now = time.monotonic_ns()  # it lasts: without an end of its own, like a kill
        self.ground.faults.append(
            Fault(
                name="node lost",
                began=now,
                ended=now,
                workers=frozenset({name}),
                rerun_within=GIVEN_BACK_WITHIN,
            )
        )
        pod.abandon()
        await self.request("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})

    async def report(self) -> str:
        """Everything that helps to understand a failure."""
        flowworkers = [
            {"name": one["metadata"]["name"], "spec": one["spec"], "status": one.get("status")}
            for one in await self.list(FLOWWORKERS)
        ]
        pods = [
            f"{one['metadata']['name']}: {one.get('status', {}).get('containerStatuses')}"
            for one in await self.list(PODS)
        ]
        logs = "\n".join(f"=== {one.name}\n{one.log()[-6000:]}" for one in self.operators)
        return "\n".join([*map(str, flowworkers), *pods, logs, self.kubelet.logs()[-3000:]])


def manifest(name: str, **spec: Any) -> Object:
    """A FlowWorker of the workload `single`; what is given replaces whole fields of the spec."""
    given: Mapping[str, Any] = {
        "flow": "single",
        "handler": "tests.chaos.workloads:single",
        "image": "localhost/flowworker:test",
        "database": {"secretRef": {"name": SECRET}},
        "worker": {**QUICK, "maxConcurrency": 2},
        "scaling": {**SHORT, "maxReplicas": 3, "tasksPerReplica": 4},
        **spec,
    }
    return {
        "apiVersion": "flowworker.dev/v1alpha1",
        "kind": "FlowWorker",
        "metadata": {"name": name},
        "spec": {field: value for field, value in given.items() if value is not None},
    }


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


def _named(name: str, labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inner}}}" if inner else name


@asynccontextmanager
async def new_world(control_plane: ControlPlane, namespace: str, ground: Ground) -> AsyncGenerator[World]:
    """A world with its Secret and with an operator that watches."""
    async with world_without_operator(control_plane, namespace, ground) as world:
        await world.another_operator("operator-0").start()
        yield world


@asynccontextmanager
async def world_without_operator(control_plane: ControlPlane, namespace: str, ground: Ground) -> AsyncGenerator[World]:
    """A world with its Secret; operators that are made in it are gone after it."""
    environment = {journal.FOLDER_VARIABLE: str(ground.folder)}
    async with ProcessKubelet(
        api=control_plane.api, namespace=namespace, folder=ground.folder / "pods", environment=environment
    ) as kubelet:
        world = World(
            control_plane=control_plane, namespace=namespace, ground=ground, kubelet=kubelet, folder=ground.folder
        )
        try:
            await world.secret()
            yield world
        finally:
            for operator in world.operators:
                await operator.close()
