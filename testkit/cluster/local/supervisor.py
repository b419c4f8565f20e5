"""PID 1 of the node: `python -m testkit.cluster.local.supervisor STATE SOCKET IMAGE...`, in fresh namespaces.

Its end is the end of every process of the node, and with them of the namespaces, their mounts and links.
"""

import asyncio
import json
import resource
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from testkit.cluster.api import Api
from testkit.cluster.certificates import ADMIN
from testkit.cluster.errors import ClusterError
from testkit.cluster.layout import Layout
from testkit.cluster.local.control import Control
from testkit.cluster.local.isolation import isolate
from testkit.cluster.local.launch import KWOK, ready_file
from testkit.cluster.local.processes import Processes
from testkit.cluster.local.relay import serve_relay
from testkit.cluster.local.startup import Node


async def supervise(layout: Layout, listening: socket.socket, images: Sequence[Path], *, kwok: bool) -> None:
    """Bring the node up, then answer until the end.

    Raises:
        ExceptionGroup: a step of the start failed.
    """
    api = Api.from_kubeconfig(layout.kubeconfig(ADMIN))
    node = Node.create(layout, api, Processes(), kwok=kwok)
    await node.bring_up(images)
    relay = await serve_relay(listening, layout.address, layout.ports.api)
    control = await Control(node).listen()
    draft = ready_file(layout.state).with_suffix(".draft")
    draft.write_text(json.dumps(node.seconds, indent=1))
    draft.replace(ready_file(layout.state))
    async with relay, control:
        await asyncio.Event().wait()


def main(state: Path, listening: socket.socket, arguments: Sequence[str]) -> None:
    """Be PID 1."""
    layout = Layout.load(state)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    isolate(layout)
    images = [Path(argument) for argument in arguments if argument != KWOK]
    try:
        asyncio.run(supervise(layout, listening, images, kwok=KWOK in arguments))
    except ExceptionGroup as failed:
        sys.exit("\n".join(str(error) for error in _expected(failed)))


def _expected(failed: ExceptionGroup[Exception]) -> Iterator[Exception]:
    """Our own errors, flat; anything else is a bug and gets its traceback."""
    ours, others = failed.split(ClusterError)
    if others:
        raise failed
    for error in ours.exceptions if ours else ():
        yield from _expected(error) if isinstance(error, ExceptionGroup) else [error]


if __name__ == "__main__":
    main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])), sys.argv[3:])
