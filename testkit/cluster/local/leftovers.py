"""What a cluster must not leave behind, looked for with fresh eyes after it was removed."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from testkit.cluster.configuration import BRIDGE
from testkit.cluster.layout import control_group
from testkit.cluster.local.cgroups import existing_groups
from testkit.cluster.local.isolation import NODE_LINK
from testkit.cluster.local.undo import SETTINGS, Undo
from testkit.cluster.proc import command_line, members


def find_leftovers(state: Path, namespaces: set[str], undo: Undo | None) -> list[str]:
    """One line for everything that is still there; empty when nothing is.

    Args:
        state: State folder of the cluster.
        namespaces: Identities of its namespaces, as far as they are known.
        undo: The record of what was changed on the machine, unless another cluster still needs that.
    """
    return [
        *(f"process {pid}: {' '.join(command_line(pid))[:100]}" for pid in members(namespaces)),
        *(f"mount {mount}" for mount in _mounts() if mount.is_relative_to(state)),
        *(f"control group {path}" for path in existing_groups(control_group(state))),
        *(f"network link {name}" for name in _links() if name in (BRIDGE, NODE_LINK)),
        *unreverted(undo),
        *([f"folder {state}"] if state.exists() else []),
    ]


def _mounts() -> list[Path]:
    return [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def _links() -> list[str]:
    listing = subprocess.run(["ip", "-oneline", "link"], capture_output=True, text=True, check=True, timeout=30)
    return [line.split(":")[1].strip().partition("@")[0] for line in listing.stdout.splitlines()]


def unreverted(undo: Undo | None) -> Iterator[str]:
    """What is still changed on the machine."""
    if undo is None:
        return
    for name, value in undo.settings.items():
        if (now := (SETTINGS / name).read_text().strip()) != value:
            yield f"setting {name} is {now}, was {value}"
    # One that is not empty belongs to another program by now.
    yield from (f"folder {folder}" for folder in undo.folders if Path(folder).is_dir() and not os.listdir(folder))
