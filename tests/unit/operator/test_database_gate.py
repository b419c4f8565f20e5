"""The gate's place between transport and driver, where an attempt to connect ends before its time."""

import asyncio
import gc
import ssl
from typing import Any

import pytest
from asyncpg.connect_utils import TLSUpgradeProto

from flowworker_operator.database.gate import SCRAM_ITERATIONS, TOO_COSTLY, Gate, GatedProtocol


async def test_a_connection_that_is_lost_before_its_answer_is_waited_for_is_no_error_in_the_log() -> None:
    """An attempt that times out between the connection and the question about TLS leaves a future without an owner."""
    loop, unseen = asyncio.get_running_loop(), list[Any]()
    loop.set_exception_handler(lambda _, context: unseen.append(context))
    inner = TLSUpgradeProto(loop, "host", 5432, ssl.create_default_context(), ssl_is_advisory=True)
    gated = GatedProtocol(inner, Gate(lambda _: None, lambda _: None), framed=False)
    gated.connection_lost(None)
    assert inner.on_data.done()
    del inner, gated
    gc.collect()
    assert unseen == []


def proof(iterations: str) -> bytes:
    """The server's part of a password check, as a frame."""
    body = (11).to_bytes(4) + b"r=nonce,s=c2FsdA==,i=" + iterations.encode()
    return b"R" + (len(body) + 4).to_bytes(4) + body


@pytest.mark.parametrize(
    ("frames", "admitted"),
    [
        ([proof("4096")], True),
        ([proof("0004096")], True),
        ([proof(str(SCRAM_ITERATIONS + 1))], False),
        ([proof("0" * 12 + "2000000000")], False),
        ([proof("9" * 5000)], False),
        ([proof("60000"), proof("60000")], False),
    ],
)
def test_the_rounds_of_hashing_of_a_connection_are_bounded_however_they_are_written(
    frames: list[bytes], admitted: bool
) -> None:
    refused: list[str] = []
    hashing: list[int] = []
    gate = Gate(refused.append, hashing.append)
    assert all(gate.admits(frame, framed=True) for frame in frames) is admitted
    assert refused == ([] if admitted else [TOO_COSTLY])
    assert sum(hashing) <= SCRAM_ITERATIONS
    assert not admitted or hashing == [4096]
