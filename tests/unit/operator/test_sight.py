"""What can be read decides what is served and what is watched together."""

from flowworker_operator.cluster.errors import NotFound, Refused, Unavailable
from flowworker_operator.cluster.resources import BUDGETS, DEPLOYMENTS, FLOWWORKERS, PODS
from flowworker_operator.handlers import Group, groups
from flowworker_operator.sight import Scope, Sight

KINDS = (FLOWWORKERS, DEPLOYMENTS, PODS, BUDGETS)


def all_seen(*namespaces: str) -> Sight:
    sight = Sight(namespaces, KINDS)
    for scope in sight.scopes:
        sight.see(scope)
    return sight


def refused() -> Refused:
    return Refused(403, "Forbidden", "pods is forbidden")


def test_namespaces_are_served_each_by_itself() -> None:
    sight = all_seen("a", "b")
    sight.bar(Scope(resource=PODS, namespace="b"), refused())
    assert (sight.serves("a"), sight.serves("b"), sight.able) == (True, False, True)
    fault = sight.fault("b")
    assert fault is not None
    assert "cannot list pods in b" in fault.message


def test_nothing_is_served_while_a_kind_that_decisions_need_cannot_be_read_anywhere() -> None:
    sight = all_seen()
    sight.bar(Scope(resource=DEPLOYMENTS, namespace=None), refused())
    assert (sight.serves("a"), sight.able) == (False, False)


def test_work_goes_on_without_disruption_budgets() -> None:
    sight = all_seen("a")
    sight.bar(Scope(resource=BUDGETS, namespace="a"), refused())
    assert (sight.serves("a"), sight.sees(BUDGETS, "a"), sight.fault("a")) == (True, False, None)


def test_what_may_pass_by_waiting_is_no_missing_right() -> None:
    sight = all_seen("a")
    sight.bar(Scope(resource=PODS, namespace="a"), Unavailable(0, "Unreachable", "no route"))
    assert (sight.serves("a"), sight.fault("a")) == (False, None)


def test_a_missing_definition_is_named() -> None:
    sight = all_seen("a")
    sight.bar(Scope(resource=FLOWWORKERS, namespace="a"), NotFound(404, "NotFound", "no such kind"))
    fault = sight.fault("a")
    assert fault is not None
    assert "the CRD is missing" in fault.message


def test_the_same_refusal_is_news_once() -> None:
    sight = all_seen("a")
    scope = Scope(resource=PODS, namespace="a")
    assert [sight.bar(scope, refused()), sight.bar(scope, refused())] == [True, False]
    sight.see(scope)
    assert sight.bar(scope, refused())


def test_everything_is_watched_together_as_long_as_nothing_is_refused() -> None:
    assert groups(all_seen("a", "b").readable) == {Group(namespaces=("a", "b"), resources=frozenset(KINDS))}


def test_a_refused_watch_is_left_out_and_ends_no_other() -> None:
    sight = all_seen("a", "b", "c")
    sight.bar(Scope(resource=PODS, namespace="b"), refused())
    for kind in KINDS:
        sight.bar(Scope(resource=kind, namespace="c"), refused())
    assert groups(sight.readable) == {
        Group(namespaces=("a",), resources=frozenset(KINDS)),
        Group(namespaces=("b",), resources=frozenset(KINDS) - {PODS}),
    }
