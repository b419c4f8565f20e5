"""The gate's place between transport and driver, where an attempt to connect ends before its time."""

import asyncio
import gc
import ssl
from typing import Any

from asyncpg.connect_utils import TLSUpgradeProto

from flowworker_operator.probe.gate import Gate, GatedProtocol


async def test_a_connection_that_is_lost_before_its_answer_is_waited_for_is_no_error_in_the_log() -> None:
    """An attempt that times out between the connection and the question about TLS leaves a future to nobody."""
    loop, unseen = asyncio.get_running_loop(), list[Any]()
    loop.set_exception_handler(lambda _, context: unseen.append(context))
    inner = TLSUpgradeProto(loop, "host", 5432, ssl.create_default_context(), ssl_is_advisory=True)
    gated = GatedProtocol(inner, Gate(lambda _: None), framed=False)
    gated.connection_lost(None)
    assert inner.on_data.done()
    del inner, gated
    gc.collect()
    assert unseen == []
