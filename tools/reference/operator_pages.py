"""The pages about the operator: the resource, its conditions, the operator's settings and metrics."""

from collections.abc import Iterator, Mapping
from typing import Any

from tools.reference.pages import metric_tables, page, table

from flowworker_operator.api.conditions import FATAL, MEANINGS, ConditionType
from flowworker_operator.api.crd import custom_resource_definition
from flowworker_operator.metric_list import METRICS
from flowworker_operator.settings import Settings, variable

ASPECTS: Mapping[ConditionType, tuple[str, str]] = {
    ConditionType.READY: ("True", "The revision asked for is proven, and its workers do the work or there is none."),
    ConditionType.PROGRESSING: ("True", "A rollout is on its way or complete; False: it cannot go on by itself."),
    ConditionType.STALLED: ("absent", "Nothing will happen until something is changed; there only while True."),
    ConditionType.DATABASE_REACHABLE: ("True", "The database answers the operator."),
    ConditionType.SCHEMA_READY: ("True", "The database holds what is needed, in a version that is supported."),
    ConditionType.SCALING_ACTIVE: ("True", "The number of workers follows the work, or in mode External the number."),
    ConditionType.SCALING_LIMITED: ("False", "More workers are wanted than maxReplicas allows."),
    ConditionType.SCALE_IGNORED: ("False", "spec.replicas was set, and the mode is not External."),
    ConditionType.DRAINS_IN_TIME: ("True", "A pod that is stopped has time to finish its tasks."),
    ConditionType.OPTIONS_IN_EFFECT: ("True", "The flow's options are those of the code; False is no failure."),
    ConditionType.CONTESTED: (
        "absent",
        "Others undo its writes, or would serve the same; there only while True.",
    ),
}
"""What each condition speaks about, and its status when all is well."""

Schema = dict[str, Any]

_BOUNDS = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " entries"),
    ("minProperties", "maxProperties", " entries"),
)
"""Lower bound, upper bound, and what they count."""


def conditions() -> str:
    """Every condition and every reason."""
    aspects = [(f"`{kind}`", status, meaning) for kind, (status, meaning) in ASPECTS.items()]
    reasons = [(f"`{one}`", "yes" if one in FATAL else "", meaning) for one, meaning in MEANINGS.items()]
    return page(
        "Conditions and reasons",
        "What `kubectl describe flowworker` shows under `Conditions`. The column STATUS of `kubectl get flowworkers`",
        "is the reason of Ready. `kubectl wait --for=condition=Ready flowworker/NAME` waits for it; tools that judge",
        "by kstatus (Flux, Helm) read Ready as healthy, Progressing as on its way, Stalled as failed. Argo CD learns",
        "it from [a script](../../examples/kubernetes/argocd-health.lua).\n",
        *table(("Condition", "When all is well", "Meaning when True"), aspects),
        "\n## Reasons\n",
        "The message of a condition adds what is known: names, numbers, and the original error text. With a",
        "reason that is final, nothing will happen until something is changed.\n",
        *table(("Reason", "Final", "Meaning"), reasons),
    )


def flowworker() -> str:
    """Every field of the resource."""
    definition = custom_resource_definition()["spec"]
    (version,) = definition["versions"]
    root = version["schema"]["openAPIV3Schema"]["properties"]
    columns = [
        (column["name"].upper(), f"`{column['jsonPath']}`", "`-o wide`" if "priority" in column else "always",
         column["description"])
        for column in version["additionalPrinterColumns"]
    ]  # fmt: skip
    rules = [(rule["message"], f"`{rule['rule']}`") for rule in root["spec"]["x-kubernetes-validations"]]
    return page(
        "FlowWorker",
        f"`{definition['group']}/{version['name']}`, plural `{definition['names']['plural']}`, short name `fw`, in a",
        "namespace. `kubectl explain fw.spec.scaling` shows the same. Unknown fields are refused by kubectl; below",
        "`spec.template.spec` every field of a pod is taken.\n",
        "## spec\n",
        *table(("Field", "Type", "Allowed", "Meaning"), _fields(root["spec"], "")),
        "\n## Rules\n",
        "Checked when the resource is written, besides what the table allows.\n",
        *table(("Rule", "As CEL"), rules),
        "\n## status\n",
        *table(("Field", "Type", "Allowed", "Meaning"), _fields(root["status"], "")),
        "\n## Columns of `kubectl get flowworkers`\n",
        *table(("Column", "From", "Shown", "Meaning"), columns),
    )


def configuration() -> str:
    """Every setting of the operator."""
    rows = [
        (f"`{variable(name)}`", f"`{field.default}`" if field.default else "unset", field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return page(
        "Configuration of the operator",
        "Environment variables of `python -m flowworker_operator`. The chart sets them from its values; an empty one",
        "counts as unset.\n",
        *table(("Variable", "Default", "Meaning"), rows),
    )


def metrics() -> str:
    """Every metric of the operator."""
    return page(
        "Metrics of the operator",
        "Served at `/metrics` on port 8080, as Prometheus text or OpenMetrics. `namespace` and `flowworker` name a",
        "resource; its series go when it goes. Only the operator that acts keeps them up to date: with several, take",
        "those where `flowworker_operator_leader` is 1. The usual `process_*` metrics are there too.\n",
        *metric_tables(METRICS),
    )


def _fields(node: Schema, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """A row for each field, those inside of it after it."""
    required = node.get("required", ())
    for name, child in node.get("properties", {}).items():
        about = child.get("description", "") + (" Required." if name in required else "")
        yield f"`{prefix}{name}`", _type(child), _allowed(child), about
        yield from _fields(child, f"{prefix}{name}.")
        yield from _fields(child.get("items", {}), f"{prefix}{name}[].")


def _type(node: Schema) -> str:
    match node["type"]:
        case "array":
            return f"list of {_type(node['items'])}"
        case "object" if "additionalProperties" in node:
            return f"map of {_type(node['additionalProperties'])}"
        case "string" if node.get("format") == "date-time":
            return "time"
        case kind:
            return str(kind)


def _allowed(node: Schema) -> str:
    if "enum" in node:
        return ", ".join(f"`{choice}`" for choice in node["enum"])
    bounds = [
        _range(node.get(low), node.get(high)) + unit for low, high, unit in _BOUNDS if low in node or high in node
    ]
    pattern = [f"`{node['pattern']}`"] if "pattern" in node else []
    return "; ".join([*bounds, *pattern])


def _range(low: int | None, high: int | None) -> str:
    match low, high:
        case None, most:
            return f"at most {most}"
        case least, None:
            return f"at least {least}"
        case least, most:
            return f"{least} to {most}"
