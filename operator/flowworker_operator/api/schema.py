"""From pydantic's JSON Schema to the structural schema that Kubernetes asks for.

Kubernetes knows no `$ref`, no `anyOf` with null, no `title` and no `additionalProperties: false`. The default of an
object is written as `{}`, so that the defaults of its own fields apply.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson
from pydantic import BaseModel

Schema: TypeAlias = dict[str, Any]

_DROPPED = frozenset({"title", "$defs", "additionalProperties", "anyOf", "allOf", "$ref", "properties", "default"})


def structural(model: type[BaseModel]) -> Schema:
    """Structural OpenAPI v3 schema of a model, under its aliases."""
    raw = model.model_json_schema(by_alias=True)
    return _convert(raw, raw.get("$defs", {}))


def _convert(node: Mapping[str, Any], definitions: Mapping[str, Schema]) -> Schema:
    node = _resolved(node, definitions)
    result: Schema = {key: value for key, value in node.items() if key not in _DROPPED}
    if "properties" in node:
        result["properties"] = {name: _convert(child, definitions) for name, child in node["properties"].items()}
    if node.get("additionalProperties", False) not in (False, True):
        result["additionalProperties"] = _convert(node["additionalProperties"], definitions)
    if "items" in node:
        result["items"] = _convert(node["items"], definitions)
    return _with_default(result, node.get("default"))


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Schema]) -> Schema:
    """Follow references and drop the null of an optional field; what is said nearer to the field wins."""
    parts = [choice for choice in node.get("anyOf", ()) if choice != {"type": "null"}] + list(node.get("allOf", ()))
    if "$ref" in node:
        parts.append(definitions[node["$ref"].rpartition("/")[2]])
    merged: Schema = {}
    for part in parts:
        merged |= _resolved(part, definitions)
    return merged | {key: value for key, value in node.items() if key not in ("anyOf", "allOf", "$ref")}


def _with_default(node: Schema, default: object) -> Schema:
    if default is None:
        return node
    if node.get("type") == "object":
        return node | {"default": {}}
    if default == []:
        return node
    text = default if isinstance(default, str) else orjson.dumps(default).decode()
    return node | {"default": default, "description": f"{node['description']} Default: {text}."}
