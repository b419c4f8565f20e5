"""Writes that others undo, and when each may be repeated.

A policy that changes what we write, a controller with another opinion and a person at a console look alike: what was
written is not there any more. Put right at once, without end, it would be a fight of many writes a second, which keeps
everything else from being done. So the first repetition comes at once and each later one after a longer pause.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import orjson

from flowworker_operator.bounded import Recent
from flowworker_operator.cluster.resources import Object, Resource
from flowworker_operator.domain import plan as changes
from flowworker_operator.domain.naming import DELETION_COST_ANNOTATION, MANAGER, PROVEN_ANNOTATION
from flowworker_operator.domain.plan import Change
from flowworker_operator.render.drift import Path, place

AT_ONCE = 2
"""Times that something is written before it is waited with: once, and once more."""
FIRST_PAUSE = 5.0
"""Seconds from the second time to the third; each later pause is twice as long."""
LONGEST_PAUSE = 600.0
REMEMBERED_FOR = 60.0
"""Seconds, or the pause if that is longer, for which a write has to last: one undone later is no fight."""
REMEMBERED = 500
"""Writes at most."""
BY_POLICY = "an admission policy or webhook of the cluster"

Slot: TypeAlias = tuple[Hashable, ...]
"""What is written: a kind of change of one object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The last write of a slot."""

    content: Hashable
    times: int
    at: float
    """Monotonic seconds."""
    undone: bool = False
    """It was wanted again before its time."""
    text: str | None = None
    """What is known about who undoes it."""

    @property
    def fought_until(self) -> float:
        """Until when one that is undone counts as undone again."""
        return self.at + max(REMEMBERED_FOR, pause(self.times))

    @property
    def known_until(self) -> float:
        """Until when it is remembered: one that is wanted again is written as soon as its pause is over."""
        return self.fought_until + (REMEMBERED_FOR if self.undone else 0.0)


def pause(times: int) -> float:
    """Seconds to wait after something was written so many times, each time in vain."""
    if times < AT_ONCE:
        return 0.0
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(times - AT_ONCE, 16))


class ContestedWrites:
    """Remembers the writes for one FlowWorker by slot."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Remember nothing; `clock` gives monotonic seconds."""
        self._clock = clock
        self._entries: Recent[Slot, Entry] = Recent(REMEMBERED)

    def __len__(self) -> int:
        return len(self._entries)

    def must_wait(self, slot: Slot, content: Hashable) -> bool:
        """Whether a write was undone too often to be repeated now; another content is another matter."""
        entry = self._entries.get(slot)
        if entry is None or entry.content != content or self._clock() >= entry.at + pause(entry.times):
            return False
        self._entries.set(slot, replace(entry, undone=True))
        return True

    def done(self, slot: Slot, content: Hashable) -> None:
        """Take in that something was written."""
        entry, now = self._entries.get(slot), self._clock()
        again = entry is not None and entry.content == content and (entry.undone or now < entry.fought_until)
        known = entry if again else None
        made = Entry(
            content=content,
            times=1 if known is None else known.times + 1,
            at=now,
            text=None if known is None else known.text,
        )
        self._entries.set(slot, made)

    def futile(self, slot: Slot, content: Hashable, text: str) -> None:
        """Take in that writing changes nothing."""
        self._entries.set(slot, Entry(content=content, times=AT_ONCE, at=self._clock(), text=text))

    def unexplained(self, slot: Slot) -> bool:
        """Whether nothing is known yet about who undoes a write."""
        entry = self._entries.get(slot)
        return entry is not None and entry.text is None

    def explain(self, slot: Slot, text: str) -> None:
        """Take in what is known about who undoes a write."""
        entry = self._entries.get(slot)
        if entry is not None:
            self._entries.set(slot, replace(entry, text=text))

    def standing(self) -> str | None:
        """What is being fought about; None when nothing is."""
        now = self._clock()
        for slot, entry in self._entries.items():
            if now >= entry.known_until:
                self._entries.drop(slot)
        fought = (entry.text for _, entry in self._entries.items() if now < entry.fought_until)
        return next((text for text in fought if text is not None), None)


def slot_of(change: Change, name: str) -> Slot | None:
    """What a change is an attempt at; repairs are counted where it is known whether they changed anything.

    Args:
        change: of a plan.
        name: of the object that it changes.
    """
    match change:
        case changes.Compile() | changes.Remove() | changes.Repair():
            return None
        case changes.Mark():
            return "Mark", change.uid
        case _:
            return type(change).__name__, name


def content_of(change: Change) -> Hashable:
    """What a change writes, whatever the reason and whichever version it was decided on."""
    match change:
        case changes.Scale() | changes.Delete() | changes.Adopt():
            return replace(change, reason="", resource_version="")
        case _:
            return replace(change, reason="")


def field_of(change: Change) -> Path | None:
    """The field that a change writes; None for those that make or remove the object."""
    match change:
        case changes.Mark():
            return "metadata", "annotations", DELETION_COST_ANNOTATION
        case changes.Prove():
            return "metadata", "annotations", PROVEN_ANNOTATION
        case changes.Adopt():
            return "metadata", "ownerReferences"
        case changes.Scale() | changes.SetReplicas():
            return "spec", "replicas"
        case _:
            return None


def contested(resource: Resource, name: str, live: Object | None, path: Path | None) -> str:
    """The message about a write that others undo.

    Args:
        resource: that was written.
        name: of the object.
        live: the object as it is now, with the record of who has written what; None when it is gone.
        path: the field; None when the object itself was made or removed.
    """
    if live is None:
        return f"{resource.kind} {name} is deleted again and again; it is made anew ever more rarely"
    if path is None:
        finalizers = ", ".join(live["metadata"].get("finalizers", ())) or "none"
        return f"{resource.kind} {name} does not go, or is made anew by others (finalizers: {finalizers})"
    return changed_by(last_writer(live, path), resource, name, path)


def changed_by(writer: str, resource: Resource, name: str, path: Path | None) -> str:
    """The message about a field that others change."""
    field = place(path or ()) or "a field"
    return f"{field} of {resource.kind} {name} is changed by {writer} again and again; it is put right ever more rarely"


def last_writer(item: Object, path: Path) -> str:
    """Who else has a field now, by the object's own record; a policy that changes our writes leaves no name there."""
    entries: Iterable[Object] = item["metadata"].get("managedFields", ())
    others = [one for one in entries if one.get("manager") != MANAGER and _holds(one.get("fieldsV1", {}), path)]
    if not others:
        return BY_POLICY
    return str(max(others, key=lambda one: str(one.get("time")))["manager"])


def _holds(fields: Mapping[str, Any], path: Path) -> bool:
    """Whether a set of fields has a path, or something that the path lies in as a whole."""
    if not path:
        return True
    head, rest = path[0], path[1:]
    inner = (fields.get(f"f:{head}"),) if isinstance(head, str) else _entries_of(fields, *head)
    return any(one is not None and (not one or _holds(one, rest)) for one in inner)


def _entries_of(fields: Mapping[str, Any], key: str, value: object) -> Iterable[Mapping[str, Any]]:
    for name, inner in fields.items():
        if name.startswith("k:"):
            found = cast("Mapping[str, object]", orjson.loads(name.removeprefix("k:")))
            if found.get(key) == value:
                yield inner
