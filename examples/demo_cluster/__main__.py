"""`python -m examples.demo_cluster`: a node, PostgreSQL, the operator and 300 runs; `… down` removes everything.

Exits with 0 only if every run completed and no worker is left. The cluster stays, for looking around.
"""

import argparse
import asyncio
import os
import sys
import time

from testkit.cluster.backend import Backend, Wishes
from testkit.cluster.choice import create_backend
from testkit.cluster.errors import ClusterError
from testkit.support import images
from testkit.support.kube import Kube
from testkit.support.programs import ProgramError, Programs
from tools.fetch_kubectl import helm, kubectl

from examples.demo_cluster.narrator import Narrator
from examples.demo_cluster.town import CHART, NAME, NAMESPACE, SYSTEM, DemoError, Town
from examples.demo_cluster.work import PAGES, Day
from flowworker import Client
from flowworker.database.connection import connect

RUNS = 300


def main() -> int:
    """Run the demo, or remove it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo_cluster", description=__doc__)
    parser.add_argument("action", nargs="?", choices=["up", "down"], default="up")
    parser.add_argument("--runs", type=int, default=RUNS)
    options = parser.parse_args()
    cluster = create_backend(os.environ)
    try:
        if options.action == "down":
            cluster.down()
            print("The demo's cluster is gone, with everything in it.")
            return 0
        return _narrate(cluster, options.runs)
    except (ClusterError, DemoError, ProgramError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _narrate(cluster: Backend, runs: int) -> int:
    narrator = Narrator()
    began = time.monotonic()
    with narrator.chapter("A Kubernetes node"):
        if cluster.status().is_up:
            narrator.say(f"one is up already ({cluster.name})")
        else:
            cluster.up(Wishes())
            narrator.say(f"up, made of: {cluster.name}")
    with narrator.chapter("Images of operator, worker and PostgreSQL, built without a registry"):
        images.load(cluster, images.build())
    good = asyncio.run(_act(cluster, narrator, runs))
    narrator.say("")
    narrator.say(f"All of it took {time.monotonic() - began:.0f} s.")
    _look_around(cluster, narrator)
    return 0 if good else 1


async def _act(cluster: Backend, narrator: Narrator, runs: int) -> bool:
    programs = Programs(cluster.kubeconfig, str(kubectl()), str(helm()))
    async with Kube.connect(cluster.kubeconfig) as kube:
        town = Town(kube=kube, programs=programs)
        with narrator.chapter("PostgreSQL in the cluster, with a volume"):
            await town.start_postgres()
        with narrator.chapter("The operator, from its chart; a hook installs pgmq and pgflow"):
            narrator.command(f"helm upgrade --install flowworker charts/{CHART.name} --namespace {SYSTEM} …")
            await town.install_operator()
        with narrator.chapter("A FlowWorker: its revision proves itself, then there is nothing to do"):
            narrator.command("kubectl apply -f examples/demo_cluster/flowworker.yaml")
            narrator.command(f"kubectl wait flowworker/{NAME} --for=condition=Ready")
            await town.apply_example()
        async with town.database() as dsn, Client(dsn) as client:
            connection = await connect(dsn, application_name="demo")
            try:
                day = Day(town=town, cluster=cluster, database=connection, runs=runs)
                return await _work(day, client, narrator)
            finally:
                await connection.close()


async def _work(day: Day, client: Client, narrator: Narrator) -> bool:
    with narrator.chapter(f"{day.runs} runs of {PAGES + 2} tasks each; one worker is killed on purpose"):
        narrator.command("kubectl get flowworkers --watch")
        starting = asyncio.create_task(day.start_runs(client))
        await day.watch(narrator)
        await starting
    good = await day.verdict()
    narrator.facts("What the database says", day.facts)
    return good


def _look_around(cluster: Backend, narrator: Narrator) -> None:
    narrator.facts(
        "Look around; the cluster stays",
        {
            "every command needs": f"export KUBECONFIG={cluster.kubeconfig} PATH={kubectl().parent}:$PATH",
            "the resource": f"kubectl -n {NAMESPACE} describe flowworker {NAME}",
            "what happened": f"kubectl -n {NAMESPACE} get events --sort-by=.lastTimestamp",
            "the operator": f"kubectl -n {SYSTEM} logs deployment/flowworker-operator",
            "the database": f"kubectl -n {NAMESPACE} exec -it postgres-0 -- psql site",
            "remove everything": "make demo-down",
        },
    )


if __name__ == "__main__":
    sys.exit(main())
