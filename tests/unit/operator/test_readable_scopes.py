"""What can be read decides what is served and what is watched together."""

from flowworker_operator.cluster.errors import NotFound, Refused, Unavailable
from flowworker_operator.cluster.resources import BUDGETS, DEPLOYMENTS, FLOWWORKERS, PODS
from flowworker_operator.handlers import Group, groups
from flowworker_operator.readable_scopes import ReadableScopes, Scope

KINDS = (FLOWWORKERS, DEPLOYMENTS, PODS, BUDGETS)


def all_seen(*namespaces: str) -> ReadableScopes:
    readable = ReadableScopes(namespaces, KINDS)
    for scope in readable.scopes:
        readable.see(scope)
    return readable


def refused() -> Refused:
    return Refused(403, "Forbidden", "pods is forbidden")


def test_namespaces_are_served_each_by_itself() -> None:
    readable = all_seen("a", "b")
    readable.bar(Scope(resource=PODS, namespace="b"), refused())
    assert (readable.serves("a"), readable.serves("b"), readable.able) == (True, False, True)
    fault = readable.fault("b")
    assert fault is not None
    assert "cannot list pods in b" in fault.message


def test_nothing_is_served_while_a_kind_that_decisions_need_cannot_be_read_anywhere() -> None:
    readable = all_seen()
    readable.bar(Scope(resource=DEPLOYMENTS, namespace=None), refused())
    assert (readable.serves("a"), readable.able) == (False, False)


def test_work_goes_on_without_disruption_budgets() -> None:
    readable = all_seen("a")
    readable.bar(Scope(resource=BUDGETS, namespace="a"), refused())
    assert (readable.serves("a"), readable.sees(BUDGETS, "a"), readable.fault("a")) == (True, False, None)


def test_what_may_pass_by_waiting_is_no_missing_right() -> None:
    readable = all_seen("a")
    readable.bar(Scope(resource=PODS, namespace="a"), Unavailable(0, "Unreachable", "no route"))
    assert (readable.serves("a"), readable.fault("a")) == (False, None)


def test_a_missing_definition_is_named() -> None:
    readable = all_seen("a")
    readable.bar(Scope(resource=FLOWWORKERS, namespace="a"), NotFound(404, "NotFound", "no such kind"))
    fault = readable.fault("a")
    assert fault is not None
    assert "the CRD is missing" in fault.message


def test_the_same_refusal_is_reported_once() -> None:
    readable = all_seen("a")
    scope = Scope(resource=PODS, namespace="a")
    assert [readable.bar(scope, refused()), readable.bar(scope, refused())] == [True, False]
    readable.see(scope)
    assert readable.bar(scope, refused())


def test_everything_is_watched_together_as_long_as_nothing_is_refused() -> None:
    assert groups(all_seen("a", "b").readable) == {Group(namespaces=("a", "b"), resources=frozenset(KINDS))}


def test_a_refused_watch_is_left_out_and_ends_no_other() -> None:
    readable = all_seen("a", "b", "c")
    readable.bar(Scope(resource=PODS, namespace="b"), refused())
    for kind in KINDS:
        readable.bar(Scope(resource=kind, namespace="c"), refused())
    assert groups(readable.readable) == {
        Group(namespaces=("a",), resources=frozenset(KINDS)),
        Group(namespaces=("b",), resources=frozenset(KINDS) - {PODS}),
    }
