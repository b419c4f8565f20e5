"""Proof by the kernel that a process is gone: each binds a socket named after its boot id while it lives.

Names of abstract Unix sockets belong to a network namespace, which the containers of a pod share, and vanish with their
process. So a worker that cannot reach the socket of another one, which had bound it in the same namespace of the same
kernel, knows that the other is dead: a restarted container takes over at once, and two live ones leave each other
alone. Only Linux has this; elsewhere it takes the usual silence.
"""

import contextlib
import os
import socket
from pathlib import Path
from uuid import UUID

KERNEL = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE = Path("/proc/self/ns/net")


class LivenessSocket:
    """This process's own socket."""

    def __init__(self, boot_id: UUID) -> None:
        """Bind nothing yet."""
        self._boot_id = boot_id
        self._socket: socket.socket | None = None
        self._namespace: str | None = None

    @property
    def network_namespace(self) -> str | None:
        """Where the socket is bound: kernel and network namespace; None while it is not."""
        return self._namespace

    def begin(self) -> None:
        """Bind, where the system can."""
        self.end()
        with contextlib.suppress(OSError, AttributeError):  # no /proc, no such sockets
            namespace = f"{KERNEL.read_text().strip()}/{os.stat(NAMESPACE).st_ino}"
            ours = _new_socket()
            try:
                ours.bind(_address(self._boot_id))
            except OSError:
                ours.close()
                raise
            self._socket, self._namespace = ours, namespace

    def end(self) -> None:
        """Let it go."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._namespace = None


def is_gone(boot_id: UUID) -> bool:
    """Whether the process of a boot id, which had bound its socket in our own network namespace, has ended."""
    try:
        with _new_socket() as ours:
            ours.connect(_address(boot_id))
    except ConnectionRefusedError:
        return True
    except OSError:  # no proof
        return False
    return False


def _new_socket() -> socket.socket:
    """A datagram socket: connecting needs no accept, so a frozen process counts as present."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def _address(boot_id: UUID) -> str:
    return f"\0flowworker-{boot_id}"
