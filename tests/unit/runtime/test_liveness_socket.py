"""The kernel shows whether a process of the same network namespace is there."""

import asyncio
import os
import signal
import sys
from uuid import UUID, uuid4

import pytest

from flowworker.runtime.heartbeat.liveness_socket import LivenessSocket, is_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")

HOLDS = """
import sys
from uuid import UUID
from flowworker.runtime.heartbeat.liveness_socket import LivenessSocket
presence = LivenessSocket(UUID(sys.argv[1]))
presence.begin()
print(presence.network_namespace, flush=True)
sys.stdin.read()
"""


async def start(boot_id: UUID) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDS, str(boot_id), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    return process, (await process.stdout.readline()).decode().strip()


def test_one_that_ended_its_presence_is_gone() -> None:
    presence = LivenessSocket(uuid4())
    assert presence.network_namespace is None
    presence.begin()
    presence.begin()
    presence.end()
    presence.end()
    assert presence.network_namespace is None


async def test_a_killed_process_is_gone_and_a_frozen_one_is_not() -> None:
    boot_id = uuid4()
    ours = LivenessSocket(uuid4())
    ours.begin()
    process, namespace = await start(boot_id)
    assert namespace == ours.network_namespace
    assert not is_gone(boot_id)
    os.kill(process.pid, signal.SIGSTOP)
    assert not any(is_gone(boot_id) for _ in range(1000))  # nothing fills up
    process.kill()
    await process.wait()
    assert is_gone(boot_id)
    ours.end()


def test_two_of_one_process_are_two() -> None:
    first, second = uuid4(), uuid4()
    presence = LivenessSocket(first)
    presence.begin()
    assert not is_gone(first)
    assert is_gone(second)
    presence.end()
    assert is_gone(first)
