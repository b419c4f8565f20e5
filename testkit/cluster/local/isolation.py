"""What the node's PID 1 does to its fresh namespaces before any daemon runs."""

import subprocess
from pathlib import Path

from testkit.cluster.layout import NODE_ADDRESS, Layout
from testkit.cluster.local.processes import ENVIRONMENT
from testkit.cluster.local.undo import PRIVATE_FOLDERS

NODE_LINK = "node0"
NODE_NETWORK = f"{NODE_ADDRESS}/24"
EXPECTED_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What kubelet wants to find in /proc/sys; the machine keeps its own values."""


def isolate(layout: Layout) -> None:
    """Hide the machine's folders, settings and network behind those of the cluster."""
    # Shared below: pods with subPath or mount propagation need it. The namespace itself is private.
    _run("mount", "--make-rshared", "/")
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for folder in PRIVATE_FOLDERS:
        _cover_folder(layout, folder)
    for name, value in EXPECTED_SETTINGS.items():
        _cover_setting(layout, name, value)
    _make_network()


def _cover_folder(layout: Layout, folder: str) -> None:
    own = layout.state / "private" / folder.strip("/").replace("/", "-")
    own.mkdir(parents=True, exist_ok=True)
    _run("mount", "--bind", str(own), folder)


def _cover_setting(layout: Layout, name: str, value: str) -> None:
    setting = Path("/proc/sys", name)
    if not setting.exists():
        return
    own = layout.state / "settings" / name.replace("/", ".")
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(f"{value}\n")
    _run("mount", "--bind", str(own), str(setting))


def _make_network() -> None:
    """A bridge that leads nowhere: from inside there is no way out of the machine."""
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", NODE_LINK, "type", "bridge")
    _run("ip", "address", "add", NODE_NETWORK, "dev", NODE_LINK)
    _run("ip", "link", "set", NODE_LINK, "up")
    # kube-proxy translates addresses of services only after a route for them was found.
    _run("ip", "route", "add", "default", "dev", NODE_LINK)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, env=ENVIRONMENT, timeout=30)
