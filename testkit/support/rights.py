"""Rights to the API server: those that rules grant, and those that an audit log shows in use."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import yaml

Object: TypeAlias = dict[str, Any]
Right: TypeAlias = tuple[str, str, str]
"""Group, resource with subresource, verb."""

RULES = Path(__file__).resolve().parents[2] / "charts" / "flowworker" / "files" / "rules.yaml"

DECISION = "authorization.k8s.io/decision"
"""Annotation of the audit log. The code 403 says less: a namespace that goes and a quota answer with it, too."""

ONLY_BY_ADMISSION: frozenset[Right] = frozenset({("flowworker.dev", "flowworkers/finalizers", "update")})
"""Looked at by the admission plugin OwnerReferencesPermissionEnforcement, where it is on; no request uses it."""


def rules() -> list[Object]:
    """What the chart lets an operator do in its own namespace and in one it looks after."""
    given = yaml.safe_load(RULES.read_text())
    return [*given["watched"], *given["lease"]]


def granted(rules: Iterable[Object]) -> set[Right]:
    """Every single right of some rules."""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def requested(audited: Iterable[Object], *, refused: bool) -> set[Right]:
    """What was asked for, and was refused or not."""
    return {
        (ref.get("apiGroup", ""), "/".join(filter(None, (ref["resource"], ref.get("subresource")))), one["verb"])
        for one in audited
        if (ref := one.get("objectRef")) is not None and (one["annotations"][DECISION] == "forbid") is refused
    }
