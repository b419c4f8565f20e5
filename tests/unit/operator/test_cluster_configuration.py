"""Where the API server is and who we are to it."""

import time
from pathlib import Path
from typing import Any

import orjson
import pytest
import time_machine
from kubernetes.aio.client import Configuration

from flowworker.errors import UsageError
from flowworker_operator.cluster.configuration import FRESH_FOR, configuration
from flowworker_operator.cluster.transport import Transport


async def token(made: Configuration) -> str | None:
    untyped: Any = made
    settings: dict[str, dict[str, str]] = await untyped.auth_settings()
    return settings["BearerToken"]["value"] if settings else None


def write_kubeconfig(folder: Path, user: dict[str, Any]) -> Path:
    document = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "me", "user": user}],
    }
    path = folder / "kubeconfig"
    path.write_bytes(orjson.dumps(document))
    return path


@pytest.fixture
def service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What kubelet mounts into a pod."""
    (tmp_path / "token").write_text("first")
    (tmp_path / "ca.crt").write_text("a certificate")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return tmp_path


@pytest.mark.parametrize("text", ["", "no: kubeconfig", "[1, 2]", "{", '{"current-context": "x", "contexts": []}'])
async def test_a_broken_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(UsageError, match=str(path)):
        await configuration(path)


async def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing-here cannot be used: .*No such file"):
        await configuration(tmp_path / "nothing-here")


async def test_outside_of_a_cluster_the_error_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UsageError, match="FLOWWORKER_OPERATOR_KUBECONFIG"):
        await configuration(None, service_account=tmp_path)


async def test_in_a_pod_the_service_account_is_used(service_account: Path) -> None:
    made = await configuration(None, service_account=service_account)

    assert made.host == "https://[fd00::1]:443"
    assert made.ssl_ca_cert == str(service_account / "ca.crt")
    assert await token(made) == "bearer first"


async def test_a_renewed_service_account_token_is_read_again(service_account: Path) -> None:
    made = await configuration(None, service_account=service_account)
    (service_account / "token").write_text("second")
    assert await token(made) == "bearer first"

    with time_machine.travel(time.time() + 61):
        assert await token(made) == "bearer second"


async def test_a_renewed_token_file_is_read_again(tmp_path: Path) -> None:
    now = 1000.0
    (tmp_path / "token").write_text("first")
    kubeconfig = write_kubeconfig(tmp_path, {"tokenFile": str(tmp_path / "token")})
    made = await configuration(kubeconfig, clock=lambda: now)
    (tmp_path / "token").write_text("second")
    assert await token(made) == "Bearer first"
    now += FRESH_FOR
    assert await token(made) == "Bearer second"
    (tmp_path / "token").write_text("third")

    assert await token(made) == "Bearer second", "it is not read for each request"


async def test_a_token_in_the_file_stays(tmp_path: Path) -> None:
    made = await configuration(write_kubeconfig(tmp_path, {"token": "secret"}))

    assert await token(made) == "Bearer secret"


async def test_a_broken_certificate_is_reported(service_account: Path) -> None:
    made = await configuration(None, service_account=service_account)

    with pytest.raises(UsageError, match=r"certificates for .* cannot be used"):
        Transport(made)
