"""Where the API server is and who we are to it: a kubeconfig file, or the pod's service account."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

from flowworker.errors import UsageError

_library: Any = config
"""Most of it has no types."""

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

FRESH_FOR = 60.0
"""Seconds between two looks at a credential that may have been renewed; they are renewed long before they end."""


async def configuration(
    kubeconfig: Path | None, *, service_account: Path = SERVICE_ACCOUNT, clock: Callable[[], float] = time.monotonic
) -> Configuration:
    """Settings of the client library.

    Args:
        kubeconfig: None means that we run in a pod of the cluster.
        service_account: folder with the pod's token and the certificate authority.
        clock: monotonic seconds.

    Raises:
        UsageError: the file or the service account is missing or broken.
    """
    made = Configuration()
    try:
        if kubeconfig is None:
            _from_service_account(made, service_account)
        else:
            await _from_kubeconfig(made, kubeconfig, clock)
    except Exception as error:  # the library meets a broken file with whatever happens to break
        raise UsageError(_advice(kubeconfig, error)) from error
    return made


def _from_service_account(made: Configuration, folder: Path) -> None:
    """The library reads the token again every minute."""
    loader: Any = InClusterConfigLoader(token_filename=str(folder / "token"), cert_filename=str(folder / "ca.crt"))
    loader.load_and_set(made)


async def _from_kubeconfig(made: Configuration, path: Path, clock: Callable[[], float]) -> None:
    path.open().close()  # raises what is wrong, where the library would only log
    loader = await _library.load_kube_config(config_file=str(path), client_configuration=made, persist_config=False)
    untyped: Any = made
    untyped.refresh_api_key_hook = _refresher(loader, clock)


def _refresher(loader: Any, clock: Callable[[], float]) -> Callable[[Configuration], Awaitable[None]]:
    """Asks the credential plugin or the token file again now and then."""
    asked_at = clock()

    async def refresh(made: Configuration) -> None:
        nonlocal asked_at
        if clock() - asked_at >= FRESH_FOR:
            asked_at = clock()
            await loader.load_and_set(made)

    return refresh


def _advice(kubeconfig: Path | None, error: Exception) -> str:
    if kubeconfig is None:
        return (
            f"not in a pod with a service account: {error} "
            "Set FLOWWORKER_OPERATOR_KUBECONFIG to a kubeconfig file to run outside of the cluster."
        )
    return f"the kubeconfig {kubeconfig} cannot be used: {error}"
