"""How long workers may take to finish, and how long pods may take to stop."""

from collections.abc import Iterable

from flowworker_operator.api.spec import FlowWorkerSpec

UNKNOWN_TIMEOUT = 60
"""Seconds to allow while the flow's timeouts have not been read."""
MARGIN = 15
"""Seconds a pod gets on top of its worker's drain timeout, to give back what is unfinished."""

_GRACE_FIELD = "spec.template.spec.terminationGracePeriodSeconds"
_DRAIN_FIELD = "spec.worker.drainTimeoutSeconds"


def drain_seconds(spec: FlowWorkerSpec, longest_timeout: int | None) -> int:
    """Seconds a draining worker is waited for."""
    chosen = spec.worker.drain_timeout_seconds
    if chosen is not None:
        return chosen
    return UNKNOWN_TIMEOUT if longest_timeout is None else longest_timeout


def grace_seconds(spec: FlowWorkerSpec, longest_timeout: int | None) -> int:
    """Termination grace period that pods should have, in seconds."""
    chosen = spec.template.spec.termination_grace_period_seconds
    return drain_seconds(spec, longest_timeout) + MARGIN if chosen is None else chosen


def new_grace_seconds(spec: FlowWorkerSpec, longest_timeout: int | None, others: Iterable[int]) -> int:
    """Termination grace period of a new revision, in seconds.

    Args:
        spec: of the FlowWorker.
        longest_timeout: of the flow or queue; None while unknown.
        others: grace periods of the revisions there are: what they were given is the best guess at what is unknown.
    """
    wanted = grace_seconds(spec, longest_timeout)
    return wanted if _certain(spec, longest_timeout) else max((wanted, *others))


def lacks_grace(spec: FlowWorkerSpec, longest_timeout: int | None, given: int) -> bool:
    """Whether pods are given less than they should have; what is unknown asks for nothing."""
    return _certain(spec, longest_timeout) and given < grace_seconds(spec, longest_timeout)


def grace_remedy(spec: FlowWorkerSpec, longest_timeout: int) -> str:
    """What makes pods get as long as a task may take, in words for users."""
    wanted = grace_seconds(spec, longest_timeout)
    if wanted < longest_timeout:
        explicit = spec.template.spec.termination_grace_period_seconds is not None
        return f"raise or remove {_GRACE_FIELD if explicit else _DRAIN_FIELD}"
    return (
        f"it becomes {wanted} s by itself once no worker runs; sooner with a new revision, as by "
        f"{_GRACE_FIELD}: {wanted}"
    )


def _certain(spec: FlowWorkerSpec, longest_timeout: int | None) -> bool:
    chosen = (spec.template.spec.termination_grace_period_seconds, spec.worker.drain_timeout_seconds, longest_timeout)
    return any(one is not None for one in chosen)
