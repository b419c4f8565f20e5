"""What importing the client costs: the models of the library, 30 MiB of them, stay where they are."""

import subprocess
import sys

import orjson

PROGRAM = """
import asyncio, sys, orjson, psutil
for name in ("fqdn", "isoduration", "rfc3987_syntax"):
    sys.modules[name] = None  # format checkers of jsonschema that only the development environment has
from kubernetes.aio.client import Configuration
from flowworker_operator.cluster.client import Cluster
from flowworker_operator.cluster.events import EventRecorder
from flowworker_operator.cluster.leadership import Leadership
from flowworker_operator.cluster.transport import Transport

async def use():
    await Transport(Configuration()).close()

asyncio.run(use())
typed = [name for name in sys.modules if ".client.models." in name or ".client.api." in name]
sys.stdout.buffer.write(orjson.dumps({"typed": typed, "mebibytes": psutil.Process().memory_info().rss / 2**20}))
"""

AFFORDABLE = 75
"""MiB; about 60 are used, a single typed API adds 10 to 26."""


def test_no_typed_model_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    cost = orjson.loads(done.stdout)

    assert cost["typed"] == []
    assert cost["mebibytes"] < AFFORDABLE
