"""How long workers may take to finish, and how long pods may take to stop."""

from flowworker_operator.api.spec import FlowWorkerSpec

UNKNOWN_TIMEOUT = 60
"""Seconds to allow while nobody has read the flow's timeouts."""
MARGIN = 15
"""Seconds a pod gets on top of its worker's drain timeout, to give back what is unfinished."""


def drain_seconds(spec: FlowWorkerSpec, longest_timeout: int | None) -> int:
    """Seconds a draining worker is waited for."""
    chosen = spec.worker.drain_timeout_seconds
    if chosen is not None:
        return chosen
    return UNKNOWN_TIMEOUT if longest_timeout is None else longest_timeout


def grace_seconds(spec: FlowWorkerSpec, longest_timeout: int | None) -> int:
    """Termination grace period of a new revision, in seconds."""
    chosen = spec.template.spec.termination_grace_period_seconds
    return drain_seconds(spec, longest_timeout) + MARGIN if chosen is None else chosen
