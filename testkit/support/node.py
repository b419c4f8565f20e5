"""What only the node can do: end a container's processes without asking the API server."""

import asyncio

from testkit.cluster.backend import Backend
from testkit.support.kube import Object

FIND_AND_KILL = """
found=1
for folder in /proc/[0-9]*; do
    if tr '\\0' '\\n' < "$folder/environ" 2>/dev/null | grep -qx "$1"; then
        kill -9 "${folder#/proc/}" && found=0
    fi
done
exit $found
"""


async def kill_worker(cluster: Backend, pod: Object) -> None:
    """Kill the worker of a pod by SIGKILL."""
    await _kill(cluster, pod, f"FLOWWORKER_POD_UID={pod['metadata']['uid']}")


async def kill_operator(cluster: Backend, pod: Object) -> None:
    """Kill the operator of a pod by SIGKILL."""
    await _kill(cluster, pod, f"FLOWWORKER_OPERATOR_IDENTITY={pod['metadata']['name']}")


async def _kill(cluster: Backend, pod: Object, variable: str) -> None:
    """Kill every process of the pod's node that has this in its environment."""
    command = ["sh", "-c", FIND_AND_KILL, "sh", variable]
    done = await asyncio.to_thread(cluster.run, command, node=pod["spec"]["nodeName"])
    assert done.returncode == 0, f"no process with {variable} was killed: {done.stderr}"
