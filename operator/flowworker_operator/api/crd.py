"""The CustomResourceDefinition, made from the models."""

from typing import Any

from flowworker_operator.api.model import GROUP, KIND, PLURAL, VERSION, rule
from flowworker_operator.api.schema import Schema, structural
from flowworker_operator.api.spec import LONGEST_NAME, FlowWorkerSpec
from flowworker_operator.api.status import FlowWorkerStatus

NAME = f"{PLURAL}.{GROUP}"


def custom_resource_definition() -> dict[str, Any]:
    """The whole CRD as a plain dictionary; the same at each call."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME, "annotations": {"helm.sh/resource-policy": "keep"}},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["fw"],
                "categories": ["all"],
            },
            "scope": "Namespaced",
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": COLUMNS,
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "schema": {"openAPIV3Schema": _root()},
    }


def _root() -> Schema:
    return {
        "description": "FlowWorker runs workers for one pgflow flow or one pgmq queue and scales them with the work.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(FlowWorkerSpec),
            "status": structural(FlowWorkerStatus),
        },
        # The name is the value of a label on every pod.
        "x-kubernetes-validations": [
            rule(
                f"size(self.metadata.name) <= {LONGEST_NAME}",
                f"metadata.name must have at most {LONGEST_NAME} characters",
            )
        ],
    }


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False, about: str) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path, "description": about}
    return column | {"priority": 1} if wide else column


COLUMNS = [
    _column("Flow", ".spec['flow','queue']", about="Flow or queue that is worked on."),
    _column("Desired", ".status.scaling.desired", "integer", about="Workers wanted."),
    _column("Ready", ".status.readyReplicas", "integer", about="Workers ready."),
    _column("Backlog", ".status.queue.startable", "integer", about="Tasks that could start now."),
    _column("InFlight", ".status.queue.inFlight", "integer", about="Tasks that run."),
    _column("Status", ".status.conditions[?(@.type=='Ready')].reason", about="Reason of the condition Ready."),
    _column("Age", ".metadata.creationTimestamp", "date", about="Time since creation."),
    _column("Mode", ".spec.scaling.mode", wide=True, about="Who decides how many workers run."),
    _column(
        "Oldest",
        ".status.queue.oldestStartableAt",
        "date",
        wide=True,
        about="Wait of the oldest startable task.",
    ),
    _column("Revision", ".status.revision.current", wide=True, about="Hash of the pod template."),
]
