"""Reading the cluster: Secrets by name, and everything else anew now and then."""

import asyncio
import base64
import gc
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from testkit.cluster.control_plane import ControlPlane
from testkit.support.waiting import until

from flowworker_operator import secrets as operator_secrets
from flowworker_operator.api.spec import CertificatesRef, ClientCertificateRef, SecretRef
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.resources import FLOWWORKERS, SECRETS, Object, Resource
from flowworker_operator.database import ClientCertificate, Key
from flowworker_operator.domain.snapshot import Fault
from flowworker_operator.handlers import WATCHED
from flowworker_operator.metrics import Metrics
from flowworker_operator.readable_scopes import ReadableScopes
from flowworker_operator.relist import Relister
from flowworker_operator.secrets import DOUBTED_AFTER, FRESH_FOR, Secrets
from flowworker_operator.store import Store

REFERENCE = SecretRef(name="app", key="uri")


@pytest.fixture
async def cluster(control_plane: ControlPlane) -> AsyncIterator[Cluster]:
    async with Cluster.connect(control_plane.kubeconfig) as cluster:
        yield cluster


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Api:
    """The API server as Secrets are read from it: counted, and held up when a test wants that."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.reads = 0
        self.open = asyncio.Event()
        self.open.set()

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        self.reads += 1
        await self.open.wait()
        return await self._cluster.get(resource, namespace, name)


@pytest.fixture
def api(cluster: Cluster) -> Api:
    return Api(cluster)


@pytest.fixture
def changed() -> list[Key]:
    """The keys that a changed Secret was reported to."""
    return []


@pytest.fixture
async def secrets(api: Any, clock: Clock, changed: list[Key]) -> AsyncIterator[Secrets]:
    secrets = Secrets(api, clock, changed.append)
    yield secrets
    await secrets.close()


def secret(namespace: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "app", "namespace": namespace},
        "stringData": data,
    }


async def read(secrets: Secrets, namespace: str, *, doubted: bool = False, name: str = "one") -> str | Fault:
    return await secrets.dsn(Key(namespace=namespace, name=name), REFERENCE, doubted=doubted)


def reads_a_secret(task: "asyncio.Task[Any]") -> bool:
    return task.get_name().startswith("secret ")


async def until_read(secrets: Secrets, namespace: str, expected: str) -> None:
    async def right() -> bool:
        return await read(secrets, namespace) == expected

    await until(right, f"{expected} was read")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "app does not exist; it must hold a PostgreSQL URI under the key uri"),
        ({"other": "x", "more": "y"}, "app has no key uri; it must hold a PostgreSQL URI"),
        ({"uri": " \n"}, "key uri of secret"),
    ],
    ids=["no secret", "no key", "empty"],
)
async def test_what_is_wrong_with_a_secret_names_it_and_its_key(
    cluster: Cluster, secrets: Secrets, namespace: str, data: dict[str, str] | None, words: str
) -> None:
    if data is not None:
        await cluster.create(SECRETS, secret(namespace, **data))
    found = await read(secrets, namespace)
    assert isinstance(found, Fault)
    assert words in found.message
    assert namespace in found.message
    assert "more" not in found.message, "who reads a FlowWorker may not read the names of other keys"


async def test_a_secret_is_read_again_after_a_while_and_sooner_when_it_is_doubted(
    cluster: Cluster, secrets: Secrets, clock: Clock, changed: list[Key], namespace: str
) -> None:
    await cluster.create(SECRETS, secret(namespace, uri="postgresql://one"))
    assert await read(secrets, namespace) == "postgresql://one"
    await cluster.apply(SECRETS, secret(namespace, uri="postgresql://two"))
    assert await read(secrets, namespace) == "postgresql://one"
    clock.now += DOUBTED_AFTER
    await read(secrets, namespace, doubted=True)
    await until_read(secrets, namespace, "postgresql://two")
    assert changed == [Key(namespace=namespace, name="one")]
    await cluster.apply(SECRETS, secret(namespace, uri="postgresql://three"))
    clock.now += FRESH_FOR - 1
    assert await read(secrets, namespace) == "postgresql://two"
    clock.now += 1
    await until_read(secrets, namespace, "postgresql://three")


async def test_a_secret_that_was_missing_is_found_within_seconds(
    cluster: Cluster, secrets: Secrets, clock: Clock, changed: list[Key], namespace: str
) -> None:
    assert isinstance(await read(secrets, namespace), Fault)
    await cluster.create(SECRETS, secret(namespace, uri="postgresql://one"))
    clock.now += DOUBTED_AFTER
    await until_read(secrets, namespace, "postgresql://one")
    assert changed == [Key(namespace=namespace, name="one")]


async def test_a_secret_that_stays_the_same_is_doubted_ever_more_rarely(
    cluster: Cluster, secrets: Secrets, api: Api, clock: Clock, namespace: str
) -> None:
    await cluster.create(SECRETS, secret(namespace, uri="postgresql://one"))
    for _ in range(64):
        await read(secrets, namespace, doubted=True)
        await until(lambda: not any(map(reads_a_secret, asyncio.all_tasks())), "what was begun has ended")
        clock.now += 1
    assert 4 <= api.reads <= 8
    await read(secrets, namespace)
    clock.now += DOUBTED_AFTER
    before = api.reads
    await read(secrets, namespace, doubted=True)
    await until(lambda: api.reads == before + 1, "a new doubt is looked into at once")


async def test_what_is_known_is_given_at_once_while_the_api_server_is_slow_and_again_when_it_has_changed(
    cluster: Cluster, secrets: Secrets, api: Api, clock: Clock, changed: list[Key], namespace: str
) -> None:
    await cluster.create(SECRETS, secret(namespace, uri="postgresql://one"))
    await read(secrets, namespace)
    await cluster.apply(SECRETS, secret(namespace, uri="postgresql://two"))
    api.open.clear()
    clock.now += FRESH_FOR
    for name in ("one", "two"):
        assert await read(secrets, namespace, name=name) == "postgresql://one"
    await until(lambda: api.reads == 2, "it is read once for both")
    api.open.set()
    await until(lambda: sorted(key.name for key in changed) == ["one", "two"], "both are notified")
    assert await read(secrets, namespace) == "postgresql://two"


async def test_of_a_secret_only_what_is_named_is_kept_and_not_for_long(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_secrets, "FRESH_FOR", 0.2)
    await cluster.create(SECRETS, secret(namespace, uri="postgresql://one", ca="some", token="canary"))
    secrets = Secrets(cluster, time.monotonic, lambda _: None)
    assert await read(secrets, namespace) == "postgresql://one"
    certificates = CertificatesRef(name="app", key="ca")
    key = Key(namespace=namespace, name="one")
    assert await secrets.certificates(key, certificates, doubted=False) == "some"
    assert {"postgresql://one", "some"} <= kept(secrets)
    assert "canary" not in kept(secrets)
    await until(lambda: not kept(secrets) & {"postgresql://one", "some"}, "it is kept no more")
    assert await read(secrets, namespace) == "postgresql://one"
    await secrets.close()
    assert "postgresql://one" not in kept(secrets)


async def test_a_certificate_and_its_key_are_of_one_state_of_their_secret(
    cluster: Cluster, secrets: Secrets, api: Api, clock: Clock, namespace: str
) -> None:
    async def read() -> ClientCertificate | Fault:
        key, reference = Key(namespace=namespace, name="one"), ClientCertificateRef(name="app")
        return await secrets.client_certificate(key, reference, doubted=False)

    async def renewed() -> bool:
        return await read() == ClientCertificate(chain="second", key="second key")

    await cluster.create(SECRETS, secret(namespace, **{"tls.crt": "first"}))
    found = await read()
    assert isinstance(found, Fault)
    assert "app has no key tls.key; it must hold a private key in PEM" in found.message
    assert api.reads == 1
    await cluster.apply(SECRETS, secret(namespace, **{"tls.crt": "first", "tls.key": "first key"}))
    clock.now += 2 * FRESH_FOR
    assert await read() == ClientCertificate(chain="first", key="first key")
    assert api.reads == 2
    await cluster.apply(SECRETS, secret(namespace, **{"tls.crt": "second", "tls.key": "second key"}))
    clock.now += FRESH_FOR
    await until(renewed, "both are new")


def kept(secrets: Secrets) -> set[str]:
    """Texts that are reachable, as they are in Secrets."""
    seen, found, rest = set[int](), set[str](), list[Any]([secrets])
    while rest:
        one = rest.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, str):
            with suppress(ValueError):
                found.add(base64.b64decode(one, validate=True).decode())
        elif isinstance(one, dict | list | tuple | set) or type(one).__module__ == operator_secrets.__name__:
            rest += gc.get_referents(one)
    return found


async def test_a_secret_that_may_not_be_read_is_a_fault_of_the_secret(
    control_plane: ControlPlane, clock: Clock, namespace: str
) -> None:
    pods_only = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    kubeconfig = control_plane.user(f"{namespace}-stranger", pods_only, namespace)
    async with Cluster.connect(kubeconfig) as cluster:
        found = await read(Secrets(cluster, clock, lambda _: None), namespace)
    assert isinstance(found, Fault)
    assert "cannot be read" in found.message
    assert "forbidden" in found.message


class Relisting:
    """A relister without any watch beside it."""

    def __init__(self, cluster: Cluster, clock: Clock, namespace: str) -> None:
        self.store = Store()
        self.changed: list[Key] = []
        self.readable = ReadableScopes((namespace,), WATCHED)
        self.relister = Relister(
            cluster=cluster,
            store=self.store,
            readable=self.readable,
            selectors=WATCHED,
            metrics=Metrics(CollectorRegistry()),
            every=60.0,
            clock=clock,
            random=lambda: 0.5,
            changed=self.changed.append,
        )


def flowworker(namespace: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "flowworker.dev/v1alpha1",
        "kind": "FlowWorker",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "flow": "report",
            "handler": "app:report",
            "image": "image",
            "database": {"secretRef": {"name": "app"}},
        },
    }


async def test_a_relist_finds_what_came_and_what_went(cluster: Cluster, clock: Clock, namespace: str) -> None:
    relisting = Relisting(cluster, clock, namespace)
    assert not relisting.readable.tried
    await cluster.create(FLOWWORKERS, flowworker(namespace, "first"))
    await relisting.relister.once()
    assert relisting.readable.tried
    await cluster.create(FLOWWORKERS, flowworker(namespace, "second"))
    await cluster.delete(FLOWWORKERS, namespace, "first")
    await relisting.relister.once()
    assert [key.name for key in relisting.changed] == ["first", "first", "second"]
    assert [key.name for key in relisting.store.keys(FLOWWORKERS)] == ["second"]


async def test_a_watch_that_keeps_silent_about_changes_is_noticed_and_one_word_clears_it(
    cluster: Cluster, clock: Clock, namespace: str
) -> None:
    relisting = Relisting(cluster, clock, namespace)
    await relisting.relister.once()
    for number in range(3):
        clock.now += 60
        await cluster.create(FLOWWORKERS, flowworker(namespace, f"number-{number}"))
        await relisting.relister.once()
    assert relisting.relister.blind_for == 120
    relisting.relister.delivered(FLOWWORKERS)
    assert relisting.relister.blind_for == 0


async def test_silence_without_changes_is_no_blindness(cluster: Cluster, clock: Clock, namespace: str) -> None:
    relisting = Relisting(cluster, clock, namespace)
    for _ in range(10):
        clock.now += 60
        await relisting.relister.once()
    assert relisting.relister.blind_for == 0
