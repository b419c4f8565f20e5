"""Settings of the operator process."""

from pathlib import Path

import pytest

from flowworker.errors import UsageError
from flowworker_operator.settings import PREFIX, Settings, load_settings, variable


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(variable(field), raising=False)


def test_the_defaults_are_those_of_a_pod_that_serves_the_cluster() -> None:
    settings = load_settings()
    assert (settings.namespace_list, settings.kubeconfig, settings.http_port) == ((), None, 8080)


def test_namespaces_are_a_list_with_each_name_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}NAMESPACES", " shop, web,,shop ")
    assert load_settings().namespace_list == ("shop", "web")


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}KUBECONFIG", "")
    assert load_settings().kubeconfig is None
    monkeypatch.setenv(f"{PREFIX}KUBECONFIG", "/somewhere/config")
    assert load_settings().kubeconfig == Path("/somewhere/config")


def test_a_wrong_value_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}HTTP_PORT", "many")
    monkeypatch.setenv(f"{PREFIX}LOG_FORMAT", "xml")
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert f"{PREFIX}HTTP_PORT" in str(caught.value)
    assert f"{PREFIX}LOG_FORMAT" in str(caught.value)
