"""Where an engine keeps what it writes, and how its programs are reached."""

from dataclasses import dataclass
from pathlib import Path

from testkit.cluster.layout import control_group

SUPERVISOR = "testkit.cluster.engine.supervisor"
"""Module of the process that all of the engine ends with."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one engine."""

    state: Path

    @property
    def socket(self) -> Path:
        """Where it answers; a socket that is a file is reached from every network namespace."""
        return self.state / "docker.sock"

    @property
    def data(self) -> Path:
        """Images, containers and volumes."""
        return self.state / "data"

    @property
    def log(self) -> Path:
        """What the daemon says."""
        return self.state / "dockerd.log"

    @property
    def runtime(self) -> Path:
        """The program that the daemon starts containers with, where runc alone does not work."""
        return self.state / "runtime"

    @property
    def ready(self) -> Path:
        """Appears when it answers; names its programs, and the port of loopback that is the same in and outside."""
        return self.state / "ready.json"

    @property
    def private(self) -> Path:
        """What lies over folders of the machine, inside."""
        return self.state / "private"

    @property
    def group(self) -> str:
        """Control group of its containers."""
        return control_group(self.state)
