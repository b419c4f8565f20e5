"""What `up` changes on the machine outside its namespaces, written down before it is changed.

`down` works from this record alone, so it also works after a crash at any point. Of several clusters at once, one that
ends hands its record on: the last one reverts everything.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

SETTINGS = Path("/proc/sys")
RAISED = {"fs/inotify/max_user_instances": 8192, "fs/inotify/max_user_watches": 524288}
"""Settings that no namespace has of its own, to the least that kubelet and its pods need."""

PRIVATE_FOLDERS = ("/var/lib/kubelet", "/var/lib/cni", "/var/log")
"""What daemons write to whatever their options say; inside, folders of the cluster lie over these."""

CHANGED = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/pid_max",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
"""What kubelet, and the systemd of a node in a container, set for the whole machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """How the machine was."""

    settings: Mapping[str, str]
    """Settings that are to be changed, by us or by what we start, with their values so far."""
    folders: tuple[str, ...]
    """Folders that are to be made, upper ones first."""

    @classmethod
    def plan(cls, settings: Path = SETTINGS, folders: Iterable[str] = PRIVATE_FOLDERS) -> Self:
        """What has to change on this machine."""
        lacking = {name: value for name, value in _read(settings, RAISED).items() if int(value) < RAISED[name]}
        return cls(settings=lacking, folders=tuple(_missing(folders)))

    @classmethod
    def watch(cls, settings: Path = SETTINGS, folders: Iterable[str] = ()) -> Self:
        """What nodes in containers will change on this machine, by themselves."""
        return cls(settings=_read(settings, CHANGED), folders=tuple(_missing(folders)))

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The record of a start; None when there was none or it had not begun to change anything."""
        try:
            record = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return cls(settings=record["settings"], folders=tuple(record["folders"]))

    def write(self, path: Path) -> None:
        """Make the record durable: it appears whole or not at all."""
        draft = path.with_suffix(".draft")
        with draft.open("w") as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def inherit(self, other: Self) -> Self:
        """With what another cluster, which ends before, would have reverted."""
        folders = dict.fromkeys([*other.folders, *self.folders])
        return type(self)(settings={**self.settings, **other.settings}, folders=tuple(folders))

    def change(self, settings: Path = SETTINGS) -> None:
        """Change the machine."""
        for name in self.settings.keys() & RAISED.keys():
            (settings / name).write_text(str(RAISED[name]))
        for folder in self.folders:
            Path(folder).mkdir(exist_ok=True)

    def revert(self, settings: Path = SETTINGS) -> None:
        """Change the machine back; folders that others have put something into stay."""
        for name, value in self.settings.items():
            (settings / name).write_text(value)
        for folder in reversed(self.folders):
            try:
                Path(folder).rmdir()
            except OSError:
                continue


def _read(settings: Path, names: Iterable[str]) -> dict[str, str]:
    return {name: (settings / name).read_text().strip() for name in names if (settings / name).exists()}


def _missing(folders: Iterable[str]) -> Iterable[str]:
    for folder in map(Path, folders):
        for path in (*reversed(folder.parents), folder):
            if not path.exists():
                yield str(path)
