"""What pydantic's schema of a type says about the ways in which its values could lose something. Pure.

pydantic describes every type as a tree of plain dictionaries, its core schema. Reading it once, when a handler is
defined, shows which checks each value needs; most types need none.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeAlias, cast

from pydantic import SerializationInfo, TypeAdapter
from pydantic_core import CoreSchema, SchemaSerializer, SchemaValidator

Node: TypeAlias = dict[str, Any]

_NO_SCHEMA_INSIDE = frozenset({"config", "cls", "default", "expected", "function", "metadata", "ref", "serialization"})
"""Keys of a node under which no node of the type itself lies; user data there may look like one."""

_DISTINCT_KEYS = frozenset(
    {"bool", "bytes", "date", "datetime", "decimal", "float", "int", "str", "time", "timedelta", "url", "uuid"}
)
"""Types whose different values have different texts, so that a dict's keys stay apart."""

_MAPPINGS = frozenset({"counter", "defaultdict", "dict", "frozendict", "mapping", "ordered-dict"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a type allows."""

    open: bool
    """Values may hold what the type does not describe: under Any, in extra fields, in iterators, as keys."""
    allows_extras: bool
    """A model in it keeps fields that it does not declare."""
    typed_dicts: bool
    dataclasses: tuple[type, ...]
    decimals: bool
    integers: bool
    floats: bool
    """Values may hold floats, under Any included."""


def traits_of(schema: CoreSchema) -> Traits:
    """Read a type's traits from its core schema."""
    nodes = list(_nodes(schema))
    kinds = {node["type"] for node in nodes}
    allows_extras = any(map(_allows_extras, nodes))
    is_open = allows_extras or not kinds.isdisjoint({"any", "generator", "typed-dict"}) or any(map(_mixes_keys, nodes))
    return Traits(
        open=is_open,
        allows_extras=allows_extras,
        typed_dicts="typed-dict" in kinds,
        dataclasses=tuple({node["cls"] for node in nodes if node["type"] == "dataclass"}),
        decimals="decimal" in kinds,
        integers="int" in kinds,
        floats=is_open or not kinds.isdisjoint({"decimal", "float"}),
    )


def keeping_extras(schema: CoreSchema) -> SchemaSerializer:
    """A serializer that writes the keys which a TypedDict does not declare; pydantic's leaves them out."""
    return SchemaSerializer(_mapped(schema, _keeping_extras), _use_prebuilt=False)


@lru_cache(maxsize=256)
def keeping_subclasses(adapter: TypeAdapter[Any]) -> SchemaSerializer:
    """A serializer that writes all fields of a dataclass' subclasses, besides what `keeping_extras` keeps.

    pydantic does so by itself for models only. Asking each value costs a call of Python, so this is for types of which
    a dataclass has subclasses.
    """

    def kept(node: Node) -> Node:
        if node["type"] != "dataclass" or "serialization" in node:
            return _keeping_extras(node)
        inner = {key: value for key, value in node.items() if key != "ref"}
        function = partial(_by_own_type, node["cls"])
        write = {"type": "function-wrap", "function": function, "info_arg": True, "schema": inner}
        return {**node, "serialization": write}

    return SchemaSerializer(_mapped(adapter.core_schema, kept), _use_prebuilt=False)


def _by_own_type(declared: type, value: Any, write: Callable[[Any], Any], info: SerializationInfo) -> Any:
    kind = cast("type[Any]", type(value))
    if kind is declared or not issubclass(kind, declared):
        return write(value)
    own = keeping_subclasses(_adapter(kind))
    return own.to_python(value, mode=info.mode, by_alias=True, warnings="error", polymorphic_serialization=True)


@lru_cache(maxsize=256)
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def restoring_numbers(
    schema: CoreSchema, *, decimal: Callable[[Any], Any], integer: Callable[[Any], Any]
) -> SchemaValidator:
    """A validator that passes what becomes a Decimal or an int through a function of ours first."""
    restore = {"decimal": decimal, "int": integer}

    def restored(node: Node) -> Node:
        if node["type"] not in restore:
            return node
        function = {"type": "no-info", "function": restore[node["type"]]}
        return {"type": "function-before", "function": function, "schema": node}

    return SchemaValidator(_mapped(schema, restored), _use_prebuilt=False)


def _keeping_extras(node: Node) -> Node:
    return {**node, "extra_behavior": "allow"} if node["type"] == "typed-dict" else node


def _mixes_keys(node: Mapping[str, Any]) -> bool:
    keys: Mapping[str, Any] = node.get("keys_schema") or {"type": "any"}
    return node["type"] in _MAPPINGS and keys["type"] not in _DISTINCT_KEYS


def _allows_extras(node: Mapping[str, Any]) -> bool:
    config: Mapping[str, Any] = node.get("config") or {}
    return "allow" in (node.get("extra_behavior"), config.get("extra_fields_behavior"))


def _is_node(mapping: Node) -> bool:
    """Other mappings hold nodes by name: a model's fields, one of which may be called `type`."""
    return isinstance(mapping.get("type"), str)


def _nodes(part: object) -> Iterator[Mapping[str, Any]]:
    """Every node of a schema, outermost first."""
    if isinstance(part, dict):
        mapping = cast("Node", part)
        is_node = _is_node(mapping)
        if is_node:
            yield mapping
        for key, value in mapping.items():
            if not (is_node and key in _NO_SCHEMA_INSIDE):
                yield from _nodes(value)
    elif isinstance(part, (list, tuple)):
        for member in cast("list[object]", part):
            yield from _nodes(member)


def _mapped(part: Any, change: Callable[[Node], Node]) -> Any:
    """A copy of a schema with every node changed, innermost first."""
    if isinstance(part, dict):
        mapping = cast("Node", part)
        if not _is_node(mapping):
            return {key: _mapped(value, change) for key, value in mapping.items()}
        keep = _NO_SCHEMA_INSIDE
        return change({key: value if key in keep else _mapped(value, change) for key, value in mapping.items()})
    if isinstance(part, (list, tuple)):
        members = [_mapped(member, change) for member in cast("list[object]", part)]
        return members if isinstance(part, list) else tuple(members)
    return part
