"""Two FlowWorkers that take from one queue of one database: the older one owns it.

Mostly both serve the same. A flow and a queue of jobs of one name share the queue too, and then the workers of jobs
would archive the messages of the flow's tasks.
"""

from collections.abc import Iterable

from flowworker_operator.domain.snapshot import Claim


def owner(claim: Claim, rivals: Iterable[Claim]) -> Claim:
    """Who may run workers; equal ages are decided by uid, so that every operator gives the same answer."""
    return min((claim, *rivals), key=lambda one: (one.created_at, one.uid))


def contention(claim: Claim, owner: Claim) -> str:
    """Why a FlowWorker may run no workers while another one does."""
    runner = f"the older FlowWorker {owner.namespace}/{owner.name}"
    if (claim.kind, claim.slug) == (owner.kind, owner.slug):
        return f"{claim.work} of this database is run by {runner}"
    return (
        f"{claim.work} has the queue of {owner.work}, which is run in this database by {runner}; each would take the "
        "other's messages: give one of them another name"
    )
