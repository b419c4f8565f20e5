"""What all models of the resource share."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

GROUP = "flowworker.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "FlowWorker"
PLURAL = "flowworkers"


class Model(BaseModel):
    """Camel case outside, snake case inside; immutable.

    Unknown fields are ignored: the API server has pruned what the CRD does not know, and an operator that is older than
    the CRD must still be able to read the resource.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


def rule(expression: str, message: str, path: str | None = None) -> dict[str, str]:
    """One CEL rule that the API server checks at admission; `path` is the field it blames, relative to `self`."""
    check = {"rule": expression, "message": message}
    return check if path is None else check | {"fieldPath": path}


def rules(*checks: dict[str, str]) -> dict[str, Any]:
    """Schema extension that holds CEL rules."""
    return {"x-kubernetes-validations": list(checks)}
