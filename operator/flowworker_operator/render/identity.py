"""Who an object belongs to."""

from dataclasses import dataclass
from typing import Any

from flowworker_operator.api.model import API_VERSION, KIND


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The FlowWorker that objects are rendered for."""

    namespace: str
    name: str
    uid: str

    def reference(self) -> dict[str, Any]:
        """The owner reference by which garbage collection finds what to delete with the FlowWorker."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
