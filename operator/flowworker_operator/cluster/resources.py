"""The kinds of objects the operator deals with, and where the API server keeps them."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flowworker_operator.api.model import API_VERSION, KIND, PLURAL

Object = dict[str, Any]
"""One object as the API server returns it."""
Objects = list[Object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One namespaced kind."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Path below the server's address; no namespace means all of them.

        Raises:
            ValueError: a part that would lead to another place than it says.
        """
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        scope = () if namespace is None else ("namespaces", namespace)
        parts = (*scope, self.plural, *(part for part in (name, subresource) if part is not None))
        return "/".join((root, *map(_segment, parts)))


def _segment(part: str) -> str:
    """Names come from users: a slash or two dots must not turn one request into another."""
    if part in {"", ".", ".."}:
        raise ValueError(f"{part!r} cannot be the name of an object")
    return quote(part, safe="")


FLOWWORKERS = Resource(api_version=API_VERSION, kind=KIND, plural=PLURAL)
DEPLOYMENTS = Resource(api_version="apps/v1", kind="Deployment", plural="deployments")
PODS = Resource(api_version="v1", kind="Pod", plural="pods")
BUDGETS = Resource(api_version="policy/v1", kind="PodDisruptionBudget", plural="poddisruptionbudgets")
LEASES = Resource(api_version="coordination.k8s.io/v1", kind="Lease", plural="leases")
SECRETS = Resource(api_version="v1", kind="Secret", plural="secrets")
EVENTS = Resource(api_version="v1", kind="Event", plural="events")
