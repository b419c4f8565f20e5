"""What is known of a cluster of kind beside its cluster: where it is, and how the machine was before."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from testkit.cluster.local.undo import Undo

OWN = "own"
"""Instead of an engine's name: the one in the cluster's state folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Written before anything is changed."""

    engine: str
    """`docker`, `podman` or OWN."""
    nodes: int
    keeps_network: bool
    """Whether the engine had kind's network before."""
    before: Undo

    @classmethod
    def read(cls, state: Path) -> Self | None:
        """That of a cluster; None when there is none."""
        try:
            found = json.loads(record_file(state).read_text())
        except (FileNotFoundError, ValueError):
            return None
        before = Undo(settings=found["before"]["settings"], folders=tuple(found["before"]["folders"]))
        return cls(engine=found["engine"], nodes=found["nodes"], keeps_network=found["keeps_network"], before=before)

    def write(self, state: Path) -> None:
        """Make it durable: it appears whole or not at all."""
        draft = record_file(state).with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(record_file(state))


def record_file(state: Path) -> Path:
    """It also marks the folder as that of a cluster of kind."""
    return state / "record.json"
