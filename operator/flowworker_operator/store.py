"""What the operator knows of the cluster: the objects it watches, as plain dictionaries, in memory.

Three sources write here: the watches, a slow re-list, and our own writes, whose answers are put in at once. They arrive
in any order. The newest resource version wins, an object seen deleted does not come back, and a re-list removes only
what it should have seen. Resource versions are compared as numbers, which Kubernetes guarantees since 1.35 and etcd has
always made true.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import orjson

from flowworker_operator.api.template import LARGEST_TEMPLATE
from flowworker_operator.bounded import Shares
from flowworker_operator.cluster.resources import DEPLOYMENTS, FLOWWORKERS, PODS, Object, Resource
from flowworker_operator.database import Key
from flowworker_operator.domain.naming import LOOKED_AT, NAME_LABEL, ORPHANING

REMEMBERED = 20_000
"""Objects of one resource that are gone, in equal shares of the namespaces: they are known until the next re-list, and
a change of one that comes late does not bring it back."""


@dataclass(slots=True)
class _Entry:
    object: Object
    written: int
    """When it was put in, by the store's own count."""


@dataclass(frozen=True, slots=True)
class _Tombstone:
    """What is left of an object that is gone, or that our selector matches no longer."""

    version: int
    """Only a later version of it is alive again."""
    written: int


@dataclass(slots=True)
class _Kind:
    entries: dict[Key, _Entry] = field(default_factory=dict[Key, _Entry])
    groups: dict[Key, set[Key]] = field(default_factory=dict[Key, set[Key]])
    """Keys of the objects that carry the name of a FlowWorker."""
    tombstones: Shares[str, _Tombstone] = field(default_factory=lambda: Shares[str, _Tombstone](REMEMBERED))
    """By uid."""


class Store:
    """Objects by resource, namespace and name. Not thread-safe: it belongs to one event loop."""

    def __init__(self) -> None:
        self._kinds: dict[Resource, _Kind] = {}
        self._count = 0

    def get(self, resource: Resource, key: Key) -> Object | None:
        """One object; must not be changed by the caller."""
        entry = self._kind(resource).entries.get(key)
        return None if entry is None else entry.object

    def keys(self, resource: Resource) -> list[Key]:
        """Keys of all objects of a resource."""
        return list(self._kind(resource).entries)

    def belonging(self, resource: Resource, flowworker: Key) -> list[Object]:
        """Objects that carry the name of a FlowWorker in their label, whatever their owner."""
        kind = self._kind(resource)
        keys = sorted(kind.groups.get(flowworker, ()), key=lambda key: key.name)
        return [kind.entries[key].object for key in keys]

    def put(self, resource: Resource, item: Object) -> bool:
        """Keep an object unless a newer version is known; returns whether something changed."""
        kind, metadata = self._kind(resource), item["metadata"]
        key = key_of(item)
        known, tombstone = kind.entries.get(key), kind.tombstones.get(key.namespace, metadata["uid"])
        past = max(-1 if known is None else _version(known.object), -1 if tombstone is None else tombstone.version)
        if _version(item) <= past:
            return False
        self._count += 1
        if known is not None:
            self._ungroup(kind, key, known.object)
        kind.entries[key] = _Entry(slim(resource, item), self._count)
        kind.groups.setdefault(owner_of(item), set()).add(key)
        return True

    def remove(self, resource: Resource, item: Object) -> bool:
        """Forget an object that was deleted; one that has taken its name since is kept."""
        kind, uid, key = self._kind(resource), item["metadata"]["uid"], key_of(item)
        self._count += 1
        kind.tombstones.set(key.namespace, uid, self._tombstone(item))
        known = kind.entries.get(key)
        if known is None or known.object["metadata"]["uid"] != uid:
            return False
        self._drop(kind, key)
        return True

    def mark(self) -> int:
        """A moment to give to `replace`: take it before listing."""
        return self._count

    def replace(
        self, resource: Resource, items: Sequence[Object], since: int, *, namespace: str | None = None
    ) -> set[Key]:
        """Take over a complete list.

        Args:
            resource: of all the objects.
            items: every object there is.
            since: from `mark`, taken before the list was asked for; what changed after it is left alone.
            namespace: that was listed; None: all of them.

        Returns:
            Keys of FlowWorkers that something was new for.
        """
        kind = self._kind(resource)
        changed = {owner_or_self(resource, item) for item in items if self.put(resource, item)}
        listed = {item["metadata"]["uid"] for item in items}
        for key, entry in list(kind.entries.items()):
            if namespace not in (None, key.namespace) or entry.written > since:
                continue
            if entry.object["metadata"]["uid"] not in listed:
                changed.add(owner_or_self(resource, entry.object))
                kind.tombstones.set(key.namespace, entry.object["metadata"]["uid"], self._tombstone(entry.object))
                self._drop(kind, key)
        kind.tombstones.retain(lambda tombstone: tombstone.written >= since, namespace=namespace)
        return changed

    def _tombstone(self, item: Object) -> _Tombstone:
        return _Tombstone(_version(item), self._count)

    def _kind(self, resource: Resource) -> _Kind:
        return self._kinds.setdefault(resource, _Kind())

    def _drop(self, kind: _Kind, key: Key) -> None:
        self._ungroup(kind, key, kind.entries.pop(key).object)

    def _ungroup(self, kind: _Kind, key: Key, item: Object) -> None:
        group = owner_of(item)
        kind.groups[group].discard(key)
        if not kind.groups[group]:
            del kind.groups[group]


def key_of(item: Object) -> Key:
    """Namespace and name of an object."""
    return Key(namespace=item["metadata"]["namespace"], name=item["metadata"]["name"])


def owner_of(item: Object) -> Key:
    """Key of the FlowWorker that an object's label names; the name is empty without the label."""
    metadata = item["metadata"]
    return Key(namespace=metadata["namespace"], name=metadata.get("labels", {}).get(NAME_LABEL, ""))


def owner_or_self(resource: Resource, item: Object) -> Key:
    """Key of the FlowWorker whose next round should see a change of an object."""
    return key_of(item) if resource == FLOWWORKERS else owner_of(item)


LONGEST_TEXT = 253
"""Characters of a label or an annotation that is kept; ours are shorter."""
MOST_NAMED = 16
"""Owners and finalizers of an object that are kept."""
LARGEST_DEPLOYMENT = 3 * LARGEST_TEMPLATE
"""Bytes of the spec of a Deployment as JSON, with what the API server and others add to ours."""

TOO_LARGE = "tooLarge"
"""Stands for a template in the spec of a FlowWorker that is larger than allowed, with the number of its bytes; None for
one that is nested so deep that it cannot be measured."""


def slim(resource: Resource, item: Object) -> Object:
    """An object without what no decision looks at: most of a pod, and who wrote which field of anything.

    Of a FlowWorker whose template is too large no decision is made, and a Deployment with one that none of ours can
    have become is not mended. Who may write objects with our labels writes annotations as he likes, a megabyte in
    each, and thousands of owners and finalizers: only what has a meaning is kept.
    """
    metadata = {name: value for name, value in item["metadata"].items() if name != "managedFields"}
    if "ownerReferences" in metadata:
        metadata["ownerReferences"] = _owners(metadata["ownerReferences"])
    if "finalizers" in metadata:
        metadata["finalizers"] = _finalizers(metadata["finalizers"])
    for texts in {"labels", "annotations"} & metadata.keys():
        metadata[texts] = {
            name: text for name, text in metadata[texts].items() if name in LOOKED_AT and len(text) <= LONGEST_TEXT
        }
    if resource == FLOWWORKERS:
        metadata["managedFields"] = list(_writers_of_replicas(item["metadata"].get("managedFields", ())))
        item = {**item, "spec": _bounded(item["spec"])}
    if resource == DEPLOYMENTS:
        item = {**item, "spec": _bounded_deployment(item["spec"])}
    kept: Iterable[str] = ("status",) if resource == PODS else (name for name in item if name != "metadata")
    return {"metadata": metadata, **{name: item[name] for name in kept if name in item}}


def _owners(references: Iterable[Object]) -> Sequence[Object]:
    """Each owner once, the controller first: whose an object is stays the same."""
    owners = {one["uid"]: one for one in references}
    first = sorted(owners.values(), key=lambda one: not one.get("controller"))[:MOST_NAMED]
    return [
        {name: value if isinstance(value, bool) else value[:LONGEST_TEXT] for name, value in one.items()}
        for one in first
    ]


def _finalizers(names: Iterable[str]) -> Sequence[str]:
    """The one with a meaning for us first, of which there is a message in any case."""
    return [name[:LONGEST_TEXT] for name in sorted(names, key=lambda one: one != ORPHANING)[:MOST_NAMED]]


def _bounded(spec: Object) -> Object:
    try:
        size = len(orjson.dumps(spec.get("template")))
    except orjson.JSONEncodeError:  # nested deeper than it writes, which the API server does not mind
        return {**spec, "template": {TOO_LARGE: None}}
    return spec if size <= LARGEST_TEMPLATE else {**spec, "template": {TOO_LARGE: size}}


def _bounded_deployment(spec: Object) -> Object:
    try:
        size = len(orjson.dumps(spec))
    except orjson.JSONEncodeError:
        size = LARGEST_DEPLOYMENT + 1
    if size <= LARGEST_DEPLOYMENT:
        return spec
    return {"replicas": spec.get("replicas", 1), "template": {"spec": {}}}


def _writers_of_replicas(entries: Iterable[Object]) -> Iterator[Object]:
    """Who has written `spec.replicas`, and whether together with the rest of the spec."""
    nothing: Object = {}
    for entry in entries:
        fields: Object = entry.get("fieldsV1", nothing).get("f:spec", nothing)
        if "f:replicas" in fields:
            kept: Object = {name: nothing for name in ("f:replicas", "f:handler") if name in fields}
            yield {**entry, "fieldsV1": {"f:spec": kept}}


def _version(item: Object) -> int:
    return int(item["metadata"]["resourceVersion"])
