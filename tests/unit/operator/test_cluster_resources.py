"""Where objects are."""

import pytest

from flowworker_operator.cluster.resources import DEPLOYMENTS, FLOWWORKERS, PODS


def test_paths_follow_the_group_of_a_kind() -> None:
    assert PODS.path("shop", "web") == "/api/v1/namespaces/shop/pods/web"
    assert DEPLOYMENTS.path("shop") == "/apis/apps/v1/namespaces/shop/deployments"
    assert DEPLOYMENTS.path(None) == "/apis/apps/v1/deployments"
    assert FLOWWORKERS.path("a", "b", "status") == "/apis/flowworker.dev/v1alpha1/namespaces/a/flowworkers/b/status"


def test_a_name_cannot_lead_elsewhere() -> None:
    assert PODS.path("shop", "a/b?c") == "/api/v1/namespaces/shop/pods/a%2Fb%3Fc"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        PODS.path("shop", name)
    with pytest.raises(ValueError, match="cannot be the name"):
        PODS.path(name, "web")
