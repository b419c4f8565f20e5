"""One cluster for the whole session, whatever it is made of."""

import asyncio
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from testkit.cluster.backend import Backend, BackendName, Wishes
from testkit.cluster.choice import create_backend
from testkit.cluster.images import tools_archive
from testkit.support.kubectl import kubectl_says
from tools.cache import cache_folder

KEEP_VARIABLE = "FLOWWORKER_E2E_KEEP"
"""Set: use the cluster that is up, bring one up if there is none, and leave it. For people who try things."""

LOGS_VARIABLE = "FLOWWORKER_E2E_LOGS"
"""Folder that takes the logs of the cluster before it is taken down."""

RESTRICTED = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn", "audit")]

NODES = {BackendName.KIND: 2, BackendName.LOCAL: 1}
"""As many as one machine bears, so that there is a node to take away."""

LIFE = ("test_cluster_life.py", "test_kind_life.py")

_numbers = count(1)


def pytest_configure() -> None:
    """Before a test without a loop, looptime asks for the thread's, which would make one that is never closed."""
    asyncio.set_event_loop(None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a cluster's own life come first: they need that none is up and none is in use."""
    items.sort(key=lambda item: item.path.name not in LIFE)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Backend]:
    """A cluster with ready nodes. It is taken down however the session ends, even when the session is killed."""
    backend = create_backend(os.environ)
    keep = KEEP_VARIABLE in os.environ
    if not (keep and backend.status().is_up):
        backend.up(Wishes(nodes=NODES[backend.name], owner=None if keep else os.getpid()))
    backend.load_image(tools_archive(cache_folder() / "images"))
    yield backend
    if folder := os.environ.get(LOGS_VARIABLE):
        backend.export_logs(Path(folder))
    if not keep:
        backend.down()


@pytest.fixture
def namespace(cluster: Backend) -> Iterator[str]:
    """A fresh namespace that enforces Pod Security restricted."""
    name = f"e2e-{os.getpid()}-{next(_numbers)}"
    create_namespace(cluster, name)
    yield name
    kubectl_says(cluster.kubeconfig, "delete", "namespace", name, "--wait=false")


def create_namespace(cluster: Backend, name: str) -> None:
    """A namespace that enforces Pod Security restricted and is ready for pods."""
    kubectl_says(cluster.kubeconfig, "create", "namespace", name)
    kubectl_says(cluster.kubeconfig, "label", "namespace", name, *RESTRICTED)
    kubectl_says(cluster.kubeconfig, "wait", "--namespace", name, "--for=create", "serviceaccount/default")
