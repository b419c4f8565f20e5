"""What of the cluster can be read: namespaces and kinds, each by itself.

A namespace that was deleted, a role that lacks a kind and a CRD that is not there yet are facts about one scope. The
others are served all the same, and the scope is tried again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from flowworker_operator.api.conditions import Reason
from flowworker_operator.cluster.errors import ClusterError, NotFound, Refused
from flowworker_operator.cluster.resources import DEPLOYMENTS, FLOWWORKERS, PODS, Resource
from flowworker_operator.domain.snapshot import Fault

ESSENTIAL = frozenset({FLOWWORKERS, DEPLOYMENTS, PODS})
"""Kinds without which nothing can be decided; without the disruption budgets there are none, and work goes on."""

Readable: TypeAlias = Mapping[str | None, frozenset[Resource]]
"""The kinds that can be read, by namespace; None is all of the cluster."""

logger = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One kind in one namespace."""

    resource: Resource
    namespace: str | None
    """None: all of the cluster."""

    def __str__(self) -> str:
        where = "" if self.namespace is None else f" in {self.namespace}"
        return f"{self.resource.plural}{where}"


class ReadableScopes:
    """Remembers of each scope whether it can be read."""

    def __init__(self, namespaces: Sequence[str], resources: Iterable[Resource]) -> None:
        """Know nothing; no namespaces means all of the cluster."""
        kinds = tuple(resources)
        self.scopes = tuple(
            Scope(resource=resource, namespace=name) for name in namespaces or (None,) for resource in kinds
        )
        """All that is to be read."""
        self.changed = asyncio.Event()
        """Set at every change of what can be read."""
        self._everywhere = not namespaces
        self._seen: set[Scope] = set()
        self._barred: dict[Scope, ClusterError] = {}

    @property
    def tried(self) -> bool:
        """Whether every scope was asked for once."""
        return len(self._seen) + len(self._barred) == len(self.scopes)

    @property
    def barred(self) -> Mapping[Scope, ClusterError]:
        """What cannot be read, and why."""
        return self._barred

    @property
    def readable(self) -> Readable:
        """What can be read."""
        found: defaultdict[str | None, set[Resource]] = defaultdict(set)
        for scope in self._seen:
            found[scope.namespace].add(scope.resource)
        return {namespace: frozenset(kinds) for namespace, kinds in found.items()}

    @property
    def able(self) -> bool:
        """Whether there is a namespace to serve."""
        return any(kinds >= ESSENTIAL for kinds in self.readable.values())

    def knows(self, scope: Scope) -> bool:
        """Whether a scope was read and has not been barred since."""
        return scope in self._seen

    def serves(self, namespace: str) -> bool:
        """Whether all that decisions need can be read in a namespace."""
        return all(Scope(resource=one, namespace=self._where(namespace)) in self._seen for one in ESSENTIAL)

    def sees(self, resource: Resource, namespace: str) -> bool:
        """Whether a kind can be read in a namespace."""
        return Scope(resource=resource, namespace=self._where(namespace)) in self._seen

    def fault(self, namespace: str) -> Fault | None:
        """What is refused in a namespace and keeps it from being served; None where waiting may help."""
        refused = [
            complaint(scope, error)
            for scope, error in self._barred.items()
            if scope.namespace == self._where(namespace)
            and scope.resource in ESSENTIAL
            and isinstance(error, Refused | NotFound)
        ]
        message = "; ".join(refused)
        return Fault(reason=Reason.ACCESS_MISSING, message=f"the operator {message}") if refused else None

    def see(self, scope: Scope) -> None:
        """Take in that a scope was read."""
        if scope in self._seen:
            return
        self._seen.add(scope)
        if self._barred.pop(scope, None) is not None:
            logger.info("can be read", scope=str(scope))
        self.changed.set()

    def bar(self, scope: Scope, error: ClusterError) -> bool:
        """Record that a scope cannot be read; returns whether that is a change."""
        before = self._barred.get(scope)
        changed = before is None or (before.status, before.reason) != (error.status, error.reason)
        self._barred[scope] = error
        self._seen.discard(scope)
        if changed:
            logger.warning("a part of the cluster is not served", scope=str(scope), error=complaint(scope, error))
            self.changed.set()
        return changed

    def _where(self, namespace: str) -> str | None:
        return None if self._everywhere else namespace


def complaint(scope: Scope, error: ClusterError) -> str:
    """One line about a scope that cannot be read, with what to do about it where that is known."""
    said = f"cannot list {scope}: {error.message} ({error.reason})"
    if isinstance(error, NotFound) and scope.resource == FLOWWORKERS:
        return f"{said}; the CRD is missing, install crds/flowworkers.flowworker.dev.yaml"
    return said
