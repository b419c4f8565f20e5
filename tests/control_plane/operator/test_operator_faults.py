"""A fault reaches the condition Ready within seconds, in words that name the cause, and hurts no other FlowWorker."""

import asyncio
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import pytest
from testkit.support.waiting import hold_for, until
from tests.chaos.workloads import Plan, single
from tests.conftest import STRANGER_ROLE, Database, create_database, drop_database
from tests.control_plane.operator.world import DEPLOYMENTS, FLOWWORKERS, PODS, World, manifest
from tests.control_plane.process_pod import MISSING_IMAGE

from flowworker_operator.cluster.shallow import shallow
from flowworker_operator.domain.naming import MANAGED_BY_LABEL, MANAGER

CONFIG_MAPS = "/api/v1/namespaces/{namespace}/configmaps"

DEEP = "deep here"
LEVELS = 3000
"""Of objects that the API server takes."""

LARGE = 60
"""FlowWorkers of 1.4 MB."""
SOON = 15.0
"""Seconds in which a condition has to name the cause."""


def database(name: str, key: str = "uri") -> dict[str, Any]:
    return {"secretRef": {"name": name, "key": key}}


def worker(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "worker", **fields}]}}


async def names_the_cause(world: World, name: str, reason: str, words: str, **spec: Any) -> float:
    """Apply a FlowWorker that cannot work; answers how long it took to say why."""
    began = time.monotonic()
    await world.apply(name, **spec)
    found = await world.until_condition(name, "Ready", "False", reason, patience=SOON)
    assert words in found["message"], found
    return time.monotonic() - began


@pytest.fixture
async def bare(world: World) -> Any:
    """A database without anything in it."""
    made = await create_database(world.ground.database.server, f"bare_{world.namespace.replace('-', '_')}")
    yield made
    await drop_database(made)


async def test_faults_of_secret_and_database(world: World, bare: Database) -> None:
    server = world.ground.database.server
    await world.secret("what is this", name="malformed")
    await world.secret(world.ground.database.server.dsn(world.ground.database.name, STRANGER_ROLE), name="stranger")
    await world.secret("postgresql://u:p@127.0.0.1/app?sslrootcert=/etc/hostname", name="file")
    await world.secret("postgresql://u:p@127.0.0.1/app?sslmode=require&sslkey=/etc/hostname", name="key")
    await world.secret(bare.dsn, name="bare")
    await world.secret("postgresql://someone@127.0.0.1:9/nowhere", name="unreachable")
    await world.secret(server.dsn("not_there", STRANGER_ROLE), name="unknown-database")
    await asyncio.gather(
        names_the_cause(world, "a", "BadSecret", "nowhere does not exist", flow="a", database=database("nowhere")),
        names_the_cause(world, "b", "BadSecret", "has no key dsn", flow="b", database=database("postgres-app", "dsn")),
        names_the_cause(world, "c", "BadSecret", "", flow="c", database=database("malformed")),
        names_the_cause(world, "d", "DatabaseRefused", "", flow="d", database=database("stranger")),
        names_the_cause(world, "e", "SchemaMissing", "db install", flow="e", database=database("bare")),
        names_the_cause(world, "f", "DatabaseUnreachable", "refused", flow="f", database=database("unreachable")),
        names_the_cause(
            world, "g", "DatabaseUnreachable", "not_there", flow="g", database=database("unknown-database")
        ),
        names_the_cause(world, "h", "BadSecret", "sslrootcert", flow="h", database=database("file")),
        names_the_cause(
            world,
            "i",
            "BadSecret",
            "sslkey, which the operator does not take: leave it out, and give certificate and "
            "key by spec.database.clientCertificateRef",
            flow="i",
            database=database("key"),
        ),
        names_the_cause(
            world,
            "j",
            "BadSecret",
            "bare has no key tls.crt; it must hold a certificate in PEM",
            flow="j",
            database={**database("postgres-app"), "clientCertificateRef": {"name": "bare"}},
        ),
    )


async def test_faults_of_image_and_handler(world: World) -> None:
    await asyncio.gather(
        names_the_cause(world, "a", "BadHandler", "no_such_module", flow="a", handler="no_such_module:flow"),
        names_the_cause(world, "b", "BadHandler", "but the spec says flow 'b'", flow="b"),
        names_the_cause(world, "c", "ImagePull", "not found", flow="c", image=f"{MISSING_IMAGE}report:1"),
        names_the_cause(
            world, "d", "ShapeMismatch", "differs from the flow", handler="tests.control_plane.operator.flows:changed"
        ),
    )


async def test_faults_of_the_template(world: World) -> None:
    banana = worker(resources={"limits": {"cpu": "banana"}})
    privileged = worker(securityContext={"privileged": True, "allowPrivilegeEscalation": True})
    await asyncio.gather(
        names_the_cause(world, "a", "TemplateRefused", "quantities must match", flow="a", template=banana),
        names_the_cause(world, "b", "TemplateRefused", "PodSecurity", flow="b", template=privileged),
        names_the_cause(world, "c", "TemplateRefused", "nonsense", flow="c", template=worker(nonsense=1)),
    )


async def test_a_final_refusal_is_tried_rarely_and_any_change_at_once(world: World) -> None:
    await names_the_cause(world, "report", "TemplateRefused", "nonsense", template=worker(nonsense=1))
    before = len(_creations(world))
    await hold_for(25)
    assert len(_creations(world)) - before <= 3
    await world.apply("report")
    await world.until_condition("report", "Progressing", "True", patience=SOON)


def _creations(world: World) -> list[str]:
    return [write for write in world.writes(world.operator.user) if write.startswith("create") and "deploy" in write]


async def test_a_quota_that_forbids_pods_is_reported_and_its_end_needs_no_hand(world: World) -> None:
    quotas = "/api/v1/namespaces/{namespace}/resourcequotas"
    await world.request("POST", quotas, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
    await names_the_cause(world, "report", "Quota", "exceeded quota")
    await world.delete(quotas, "none")
    await world.until_condition("report", "Ready", "True", patience=60)


async def test_a_fault_is_repaired_by_the_next_apply_and_others_work_meanwhile(world: World) -> None:
    await world.apply("good")
    await names_the_cause(world, "bad", "BadHandler", "no_such_module", flow="fan", handler="no_such_module:fan")
    run = await world.ground.start_run(single, Plan())
    await world.ground.drained()
    await world.apply("bad", flow="fan", handler="tests.chaos.workloads:fan")
    await world.until_condition("bad", "Ready", "True")
    assert (await world.ground.task(run, "only"))["attempts_count"] == 1


async def test_a_secret_that_comes_later_is_noticed(world: World) -> None:
    await names_the_cause(world, "report", "BadSecret", "does not exist", database=database("later"))
    await world.secret(name="later")
    await world.until_condition("report", "Ready", "True")


def owner(name: str, key: str = "uri") -> dict[str, Any]:
    return {"secretRef": {"name": "postgres-app"}, "ownerSecretRef": {"name": name, "key": key}}


async def compilations(world: World) -> list[str]:
    """Pods that were created to create a flow."""
    return [pod.name for pod in world.kubelet.pods.values() if pod.name.endswith("-compile")]


async def test_the_owner_creates_the_flow_once_for_a_revision_and_no_worker_has_its_secret(world: World) -> None:
    await world.secret(world.ground.database.dsn, name="owner")
    spec = {"handler": "tests.control_plane.operator.flows:fresh", "flow": "fresh", "database": owner("owner")}
    await world.apply("report", **spec, scaling={"mode": "External"})
    await world.until_condition("report", "Ready", "True", "Running")
    await world.patch(FLOWWORKERS, "report", {"spec": {"replicas": 3}})
    await world.until_replicas("report", 3)
    assert len(await compilations(world)) == 1
    await world.patch(FLOWWORKERS, "report", {"spec": {"image": "localhost/flowworker:next"}})
    await world.until_condition("report", "Ready", "False", "RollingOut")
    await world.until_condition("report", "Ready", "True", "Running", patience=60)
    assert len(await compilations(world)) == 2
    pods = await world.list(PODS)
    assert [pod["metadata"]["name"] for pod in pods if pod["metadata"]["name"].endswith("-compile")] == []
    assert "owner" not in str([pod["spec"] for pod in pods])


async def test_what_keeps_the_owner_from_creating_the_flow_is_named(world: World) -> None:
    server = world.ground.database.server
    await world.secret(world.ground.database.worker_dsn, name="weak")
    await world.secret("postgresql://someone@127.0.0.1:9/nowhere", name="unreachable")
    await world.secret(server.dsn("not_there", STRANGER_ROLE), name="unknown-database")
    await asyncio.gather(
        names_the_cause(
            world, "a", "DatabaseRefused", "create", flow="fresh", database=owner("weak"),
            handler="tests.control_plane.operator.flows:fresh",
        ),
        names_the_cause(world, "b", "BadHandler", "no_such_module", flow="b", database=owner("weak"),
                        handler="no_such_module:b"),
        names_the_cause(
            world, "c", "ShapeMismatch", "differs from the flow", database=owner("weak"),
            handler="tests.control_plane.operator.flows:changed",
        ),
    )  # fmt: skip


def volume(**source: Any) -> dict[str, Any]:
    """A template whose worker mounts one more volume."""
    mounts = [{"name": "given", "mountPath": "/given"}]
    containers = [{"name": "worker", "volumeMounts": mounts}]
    return {"spec": {"containers": containers, "volumes": [{"name": "given", **source}]}}


async def test_what_a_pod_cannot_mount_is_named(world: World) -> None:
    await world.secret(world.ground.database.dsn, name="owner")
    keys = [{"key": "banner", "path": "banner"}]
    await world.request("POST", CONFIG_MAPS, {"metadata": {"name": "texts"}, "data": {"greeting": "hello"}})
    await asyncio.gather(
        names_the_cause(world, "a", "BadSecret", 'secret "no-owner" not found', flow="a", database=owner("no-owner")),
        names_the_cause(
            world, "b", "BadSecret", "spec.database.ownerSecretRef: key dsn of secret owner", flow="b",
            database=owner("owner", "dsn"),
        ),
        names_the_cause(
            world, "c", "BadSecret", 'secret "keys" not found', flow="c", template=volume(secret={"secretName": "keys"})
        ),
        names_the_cause(
            world, "d", "BadSecret", "secret owner with the keys banner", flow="d",
            template=volume(secret={"secretName": "owner", "items": keys}),
        ),
        names_the_cause(
            world, "e", "BadConfigMap", 'configmap "words" not found', flow="e",
            template=volume(configMap={"name": "words"}),
        ),
        names_the_cause(
            world, "f", "BadConfigMap", "configmap texts with the keys banner", flow="f",
            template=volume(configMap={"name": "texts", "items": keys}),
        ),
    )  # fmt: skip


async def test_what_a_variable_comes_from_is_named(world: World) -> None:
    await world.secret(name="keys")
    await world.request("POST", CONFIG_MAPS, {"metadata": {"name": "texts"}, "data": {"greeting": "hello"}})
    await asyncio.gather(
        names_the_cause(
            world, "a", "BadSecret", 'secret "nope" not found', flow="a",
            template=worker(envFrom=[{"secretRef": {"name": "nope"}}]),
        ),
        names_the_cause(
            world, "b", "BadSecret", "couldn't find key token in Secret", flow="b",
            template=worker(env=[{"name": "T", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}}]),
        ),
        names_the_cause(
            world, "c", "BadConfigMap", 'configmap "nope" not found', flow="c",
            template=worker(envFrom=[{"configMapRef": {"name": "nope"}}]),
        ),
        names_the_cause(
            world, "d", "BadConfigMap", "couldn't find key token in ConfigMap", flow="d",
            template=worker(env=[{"name": "T", "valueFrom": {"configMapKeyRef": {"name": "texts", "key": "token"}}}]),
        ),
    )  # fmt: skip


async def test_what_was_missing_and_comes_later_ends_the_fault(world: World) -> None:
    await names_the_cause(
        world, "report", "BadConfigMap", "not found", template=volume(configMap={"name": "later", "optional": False})
    )
    await world.request("POST", CONFIG_MAPS, {"metadata": {"name": "later"}, "data": {"greeting": "hello"}})
    await world.until_condition("report", "Ready", "True")


async def test_pods_that_are_not_made_are_explained(world: World) -> None:
    limits = {"metadata": {"name": "small"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]}}
    await asyncio.gather(
        names_the_cause(
            world, "a", "TemplateRefused", "serviceaccount \"nobody\" not found", flow="a",
            template={"spec": {"serviceAccountName": "nobody"}},
        ),
        names_the_cause(
            world, "b", "TemplateRefused", "no PriorityClass with name", flow="b",
            template={"spec": {"priorityClassName": "urgent"}},
        ),
    )  # fmt: skip
    await world.request("POST", "/api/v1/namespaces/{namespace}/limitranges", limits)
    resources = {"requests": {"memory": "128Mi"}, "limits": {"memory": "128Mi"}}
    await names_the_cause(
        world,
        "c",
        "Quota",
        "maximum memory usage per Container is 64Mi",
        flow="c",
        template=worker(resources=resources),
    )


async def test_a_connection_string_that_is_wrong_in_one_part_is_named(world: World) -> None:
    name, port = world.ground.database.name, world.ground.database.server.port
    wrong = {
        "host": f"postgresql://flowworker_worker@no-such-host.invalid:{port}/{name}",
        "port": f"postgresql://flowworker_worker@127.0.0.1:1/{name}",
        "name": f"postgresql://flowworker_worker@127.0.0.1:{port}/nothing",
        "user": f"postgresql://stranger_to_all@127.0.0.1:{port}/{name}",
        "rights": world.ground.database.server.dsn(name, STRANGER_ROLE),
        "scheme": f"mysql://flowworker_worker@127.0.0.1:{port}/{name}",
    }
    for part, dsn in wrong.items():
        await world.secret(dsn, name=f"wrong-{part}")
    causes = [
        names_the_cause(world, part, reason, words, flow=f"flow_{part}", database=database(f"wrong-{part}"))
        for part, reason, words in (
            ("host", "DatabaseUnreachable", "no-such-host.invalid"),
            ("port", "DatabaseUnreachable", "check host and port"),
            ("name", "DatabaseUnreachable", "correct the name in the Secret"),
            ("user", "DatabaseRefused", "stranger_to_all"),
            ("rights", "DatabaseRefused", "db install --role"),
            ("scheme", "BadSecret", ""),
        )
    ]
    await asyncio.gather(*causes)


async def test_a_handler_that_is_wrong_is_named(world: World) -> None:
    flows = "tests.control_plane.operator.flows"
    await world.request("POST", CONFIG_MAPS, {"metadata": {"name": "code"}, "data": {"typo.py": "def broken(:\n"}})
    code = volume(configMap={"name": "code"})
    code["spec"]["containers"][0]["env"] = [{"name": "PYTHONPATH", "value": "/given/."}]
    await asyncio.gather(
        names_the_cause(world, "a", "BadHandler", "nothing", flow="a", handler=f"{flows}:nothing"),
        names_the_cause(world, "b", "BadHandler", "unequal", flow="b", handler=f"{flows}:unequal"),
        names_the_cause(world, "c", "BadHandler", "SyntaxError", flow="c", handler="typo:c", template=code),
        names_the_cause(world, "d", "DatabaseRefused", "has no flow 'fresh'", flow="fresh", handler=f"{flows}:fresh"),
        names_the_cause(
            world, "e", "BadSettings", "FLOWWORKER_LOG_LEVEL", flow="e",
            template=worker(env=[{"name": "FLOWWORKER_LOG_LEVEL", "value": "loud"}]),
        ),
    )  # fmt: skip


async def test_a_pod_that_finds_no_node_is_explained(world: World) -> None:
    claim = volume(persistentVolumeClaim={"claimName": "nope"})
    await asyncio.gather(
        names_the_cause(
            world, "a", "Unschedulable", "node affinity/selector", flow="a",
            template={"spec": {"nodeSelector": {"disk": "none"}}},
        ),
        names_the_cause(world, "b", "Unschedulable", '"nope" not found', flow="b", template=claim),
    )  # fmt: skip


async def test_an_operator_whose_clock_is_an_hour_ahead_gives_a_revision_its_time(world: World) -> None:
    await world.operator.stop()
    world.operator.launcher = "tests.control_plane.wrong_clock"
    await world.operator.start()
    await world.apply("report", image=f"{MISSING_IMAGE}report:1")
    await world.until_condition("report", "Ready", "False", "ImagePull")
    progressing = await world.condition("report", "Progressing")
    assert (progressing["status"], progressing["reason"]) == ("True", "Proving"), progressing
    assert await world.condition("report", "Stalled") == {}
    await world.patch(FLOWWORKERS, "report", {"spec": {"image": "localhost/flowworker:test"}})
    await world.until_idle("report")


async def test_a_template_of_a_megabyte_is_refused_by_name_and_costs_no_memory(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    before = resident(world.operator.pid)
    filler = {"spec": {"containers": [{"name": "worker", "filler": "x" * 1_400_000}]}}
    for number in range(LARGE):
        await world.apply(f"large-{number}", flow=f"large_{number}", template=filler)
    for number in range(LARGE):
        condition = await world.until_condition(f"large-{number}", "Ready", "False", "InvalidSpec", patience=60)
        assert "spec.template" in condition["message"]
    # All of them again, from lists: the next one comes within seconds.
    await world.operator.stop()
    await world.operator.start()
    # While they were kept, and read in one piece, they took more than twice their size.
    assert resident(world.operator.pid) - before < LARGE * 1_400_000
    await world.ground.start_run(single, Plan())
    await world.ground.conclude()


async def test_an_object_nested_deeper_than_a_parser_goes_is_refused_by_name_and_hides_no_other(world: World) -> None:
    await world.apply("report")
    await world.until_idle("report")
    try:
        await created_deep(world, FLOWWORKERS, manifest("deep", flow="deep", template={"spec": {"f:a": DEEP}}))
        await created_deep(world, DEPLOYMENTS, deep_deployment())
        # It comes with watches first, then with lists.
        await until(lambda: refused_as_too_deep(world), "it is refused by name")
        await names_the_cause(world, "later", "BadSecret", "", flow="later", database=database("nowhere"))
        await world.operator.stop()
        await world.operator.start()
        await names_the_cause(world, "last", "BadSecret", "", flow="last", database=database("nowhere"))
        await world.ground.start_run(single, Plan())
        await world.ground.conclude()
    finally:
        for place in (FLOWWORKERS, DEPLOYMENTS):
            await world.raw("DELETE", f"{place}/deep")


async def created_deep(world: World, place: str, item: dict[str, Any]) -> None:
    nested = b'{"f:a":' * LEVELS + b"{}" + b"}" * LEVELS
    status, answer = await world.raw("POST", place, orjson.dumps(item).replace(b'"deep here"', nested))
    assert status == HTTPStatus.CREATED, answer[:1000]


def deep_deployment() -> dict[str, Any]:
    """Typed objects have room for depth too: in what says who wrote which field."""
    labels, container = {"app": "deep"}, {"name": "worker", "image": "localhost/pause:e2e"}
    written = {"manager": "deep", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "deep",
            "labels": {MANAGED_BY_LABEL: MANAGER},
            "managedFields": [{**written, "fieldsV1": {"f:metadata": {"f:annotations": DEEP}}}],
        },
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


async def refused_as_too_deep(world: World) -> bool:
    _, answer = await world.raw("GET", f"{FLOWWORKERS}/deep")
    found = orjson.loads(shallow(answer))
    conditions = found.get("status", {}).get("conditions", ())
    return any("spec.template: is nested too deep" in one["message"] for one in conditions)


def resident(pid: int) -> int:
    """Bytes of memory that a process uses now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
