"""Two FlowWorkers for one flow or queue of one database: the older one owns it."""

from collections.abc import Iterable

from flowworker_operator.domain.snapshot import Claim


def owner(claim: Claim, rivals: Iterable[Claim]) -> Claim:
    """Who may run workers; equal ages are decided by uid, so that every operator gives the same answer."""
    return min((claim, *rivals), key=lambda one: (one.created_at, one.uid))
