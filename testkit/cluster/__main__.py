"""`python -m testkit.cluster`: a Kubernetes cluster from one command, and gone by another."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from testkit.cluster.backend import Backend, Component, Status, Wishes
from testkit.cluster.choice import create_backend, needed
from testkit.cluster.errors import ClusterError
from testkit.cluster.packages import install


def main() -> None:
    """Do what the arguments say."""
    options = parse()
    try:
        sys.exit(options.do(options))
    except ClusterError as error:
        sys.exit(f"error: {error}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m testkit.cluster", description="One Kubernetes cluster.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, do: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(do=do)
        return command

    start = add("up", up, "Bring the cluster up and wait until pods can run.")
    start.add_argument("--image", action="append", default=[], type=archive, metavar="ARCHIVE", help="docker-archive")
    start.add_argument("--nodes", type=int, default=1, help="more than one on kind only")
    start.add_argument("--kwok", action="store_true", help="simulated nodes beside the real one")
    start.add_argument("--foreground", action="store_true", help="stay, and take the cluster down at the end")
    add("down", down, "Remove the cluster and everything it has made.")
    add("status", status, "Say how the cluster is; exit code 1 when it is not up.")
    add("kubeconfig", kubeconfig, "Print the path of a kubeconfig for kubectl and helm.")
    add("exec", execute, "Run a command in the node's network.").add_argument("command", nargs=argparse.REMAINDER)
    add("load", load, "Load images.").add_argument("archive", type=archive, help="docker-archive")
    change = add("component", component, "Kill, stop, start or restart a daemon of the node.")
    change.add_argument("action", choices=["kill", "stop", "start", "restart"])
    change.add_argument("name", type=Component, choices=[*Component])
    add("logs", logs, "Print the log of a daemon.").add_argument("name", type=Component, choices=[*Component])
    prepare = add("setup", setup, "Install what a cluster needs from the distribution's packages (as root).")
    prepare.add_argument("--tests", action="store_true", help="and what the pods of tests need")
    return parser.parse_args()


def archive(path: str) -> Path:
    """The path of an existing archive; a missing one is reported now, not when the cluster is half up."""
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{path} is no file")
    return Path(path)


def up(options: argparse.Namespace) -> int:
    """Bring up, and with --foreground wait and take down."""
    cluster = create_backend(os.environ)
    owner = os.getpid() if options.foreground else None
    cluster.up(Wishes(images=tuple(options.image), kwok=options.kwok, nodes=options.nodes, owner=owner))
    show(cluster.status())
    if options.foreground:
        stay(cluster)
    return 0


def stay(cluster: Backend) -> None:
    """Wait for the end of the terminal or of the job; should this process be killed, the janitor takes over."""
    print("Ctrl-C takes the cluster down.", flush=True)
    ends = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    signal.sigwait(ends)
    cluster.down()


def down(_: argparse.Namespace) -> int:
    """Take down."""
    create_backend(os.environ).down()
    print("The cluster is down; nothing is left behind.")
    return 0


def status(_: argparse.Namespace) -> int:
    """Show how it is."""
    now = create_backend(os.environ).status()
    show(now)
    return 0 if now.is_up else 1


def show(now: Status) -> None:
    """Print a status for people."""
    if not now.is_up:
        print(f"No cluster is up ({now.backend}).")
        return
    print(f"The cluster is up ({now.backend}): export KUBECONFIG={now.kubeconfig}")
    for name, state in now.components.items():
        print(f"  {name:24} {state}")
    if now.seconds:
        last, seconds = max(now.seconds.items(), key=lambda step: step[1])
        print(f"It took {seconds:.1f} s to start; last: {last}.")


def kubeconfig(_: argparse.Namespace) -> int:
    """Print where it is."""
    print(create_backend(os.environ).kubeconfig)
    return 0


def execute(options: argparse.Namespace) -> int:
    """Become the command."""
    if not options.command:
        raise ClusterError("exec needs a command, for example: exec kubectl get pods --all-namespaces")
    line = create_backend(os.environ).inside(options.command)
    os.execvp(line[0], line)


def load(options: argparse.Namespace) -> int:
    """Load the images of one archive."""
    create_backend(os.environ).load_image(options.archive)
    return 0


def component(options: argparse.Namespace) -> int:
    """Change one daemon."""
    cluster = create_backend(os.environ)
    actions = {"kill": cluster.kill, "stop": cluster.stop, "start": cluster.start, "restart": cluster.restart}
    actions[options.action](options.name)
    return 0


def logs(options: argparse.Namespace) -> int:
    """Print one log."""
    print(create_backend(os.environ).logs(options.name), end="")
    return 0


def setup(options: argparse.Namespace) -> int:
    """Install what is missing for the backend that would be used."""
    install(needed(os.environ, tests=options.tests))
    return 0


if __name__ == "__main__":
    main()
