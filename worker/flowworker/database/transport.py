"""The TCP connection beneath a session: whether bytes move, and how to let go of it."""

import socket
import struct
from contextlib import suppress
from typing import Any, cast

from flowworker.database.connection import Connection

TCP_INFO_SIZE = 192
BYTES_MOVED_OFFSET = 120
"""Of `tcpi_bytes_acked` and `tcpi_bytes_received`, two unsigned 64-bit numbers, in Linux's struct tcp_info."""

LINGER_NOT = struct.pack("ii", 1, 0)


def bytes_moved(connection: Connection) -> int | None:
    """Bytes the peer has acknowledged and has sent so far; None where the platform does not say."""
    sock = _tcp_socket(connection)
    option = getattr(socket, "TCP_INFO", None)
    if sock is None or option is None:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, option, TCP_INFO_SIZE)
    except OSError:
        return None
    if len(info) < BYTES_MOVED_OFFSET + 16:
        return None
    acknowledged, received = struct.unpack_from("QQ", info, BYTES_MOVED_OFFSET)
    return acknowledged + received


def let_go(connection: Connection) -> None:
    """Drop a connection now. What was not sent yet is thrown away, so that no statement arrives after an outage."""
    sock = _tcp_socket(connection)
    if sock is not None:
        with suppress(OSError):  # it is closed already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
    connection.terminate()


def _tcp_socket(connection: Connection) -> socket.socket | None:
    # asyncpg has no public way to its transport.
    transport: Any = getattr(connection, "_transport", None)
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0 or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    return cast("socket.socket", sock)
