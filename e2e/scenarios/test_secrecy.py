"""A password and a payload are nowhere but where they belong, after whatever may happen to work and to the operator."""

from uuid import uuid4

import orjson
from e2e.support.canary import Canary, Trace, traces
from e2e.support.flowworker import FlowWorker
from e2e.support.ground import IMAGE, START, Ground
from e2e.support.postgres import PORT
from e2e.support.stage import Stage
from e2e.workloads.flows import BRIEF, Plan, brief, errands
from testkit.support.kube import EVENTS, FLOWWORKERS, PODS, Kube, Object
from testkit.support.node import kill_worker
from testkit.support.together import together
from testkit.support.waiting import until

AT_ONCE = 1
"""Its operator is killed, and what it plants must not be found by others."""
COMMANDS = (
    "db status", "db status --output json", "db doctor", "workers list --output json",
    "runs list", "runs list --output json", "flows diff flows:brief",
)  # fmt: skip
"""Not `runs show`, `jobs list` and `jobs show`, whose purpose is to show payloads."""
ENDED = "SELECT count(*) FROM pgmq.a_errands"

PLANTED = """
import http.server, os, time
secret = os.environ["CANARY"]
print(secret, flush=True)
open("/planted/file", "w").write(secret)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(secret.encode())

http.server.HTTPServer(("", 8080), Handler).serve_forever()
"""


@together
async def test_a_password_and_a_payload_are_nowhere_but_where_they_belong(stage: Stage) -> None:
    async with Ground.prepare(stage.with_disturbance(), "secrecy", brief, errands, budget=600) as ground:
        password, payload = Canary.hatch(), Canary.hatch()
        needles = (*password.needles, *payload.needles)
        role = await ground.create_role(password.text)
        await ground.write_secret(role.dsn)
        workers = [ground.flowworker(work, scaling={"minReplicas": 1, "maxReplicas": 1}) for work in (brief, errands)]
        for worker in workers:
            await worker.apply()
            await worker.becomes("Ready", "True", "Running")
        await everything_happens(ground, workers, payload.text)
        await secrets_are_wrong(ground, password)
        said = await commands(ground, workers[0], password, payload)
        await stage.release.kill(ground.kube, stage.cluster)
        await stage.release.available(ground.kube)
        await ground.start_runs(brief, 1, Plan(note=payload.text))
        await ground.drained()
        found = await traces(ground, needles, said=said)
        assert found == [], "\n".join(map(str, found))
        assert await planted(ground, needles) >= {
            "said", "FlowWorker", "Event", "Pod", "log", "served", "file", "cmdline", "environ", "row", "daemon",
        }  # fmt: skip


async def everything_happens(ground: Ground, workers: list[FlowWorker], note: str) -> None:
    """Runs and jobs that succeed, fail, last too long, do not fit, and end their process; a worker that is killed."""
    good, bad, long = Plan(note=note), Plan(note=note, failures=9), Plan(note=note, seconds=10 * BRIEF)
    for plan in (good, bad, long):
        await ground.start_runs(brief, 1, plan)
        await ground.send_jobs(errands, 1, plan)
    misfit = orjson.dumps({"seconds": note, "note": [note], note: note})
    run = uuid4()
    await ground.database.value(START, brief.slug, [run], misfit)
    ground.runs.add(run)
    await ground.database.value("SELECT pgmq.send($1, $2)", errands.name, misfit)
    await ended(ground, jobs=4)
    for number, gate in enumerate(("a run ends it", "a job ends it")):
        await ground.open_gate(gate)
        if number:
            await ground.send_jobs(errands, 1, Plan(note=note, exits=gate))
        else:
            await ground.start_runs(brief, 1, Plan(note=note, exits=gate))
    await ended(ground, jobs=5)
    await ground.start_runs(brief, 1, Plan(note=note, seconds=BRIEF - 1))
    await ground.send_jobs(errands, 1, Plan(note=note, seconds=BRIEF - 1))
    for worker in workers:
        (pod,) = (await worker.is_at(1)).pods
        await kill_worker(ground.stage.cluster, pod)
    await ended(ground, jobs=6)


async def ended(ground: Ground, *, jobs: int) -> None:
    """Wait until all runs and so many jobs have ended, well or not."""
    await ground.drained()

    async def archived() -> bool:
        return await ground.database.value(ENDED) >= jobs

    await until(archived, f"{jobs} jobs are in the archive", every=0.3)


async def secrets_are_wrong(ground: Ground, password: Canary) -> None:
    """Connection strings that are malformed, of another role, for another host, or have no right to create a flow."""
    host = f"postgres.{ground.stage.server.namespace}.svc:{PORT}"
    strings = {
        "malformed": f"postgresql://user:{password.text}@{host}/{ground.database.name}",
        "another": f"postgresql://nobody:{password.quoted}@{host}/{ground.database.name}",
        "elsewhere": f"postgresql://user:{password.quoted}@nowhere.invalid/{ground.database.name}",
        "parameter": f"postgresql://user@{host}/{ground.database.name}?password={password.text}&sslcert=x",
    }
    for name, text in strings.items():
        await ground.write_secret(text, name)
        worker = ground.flowworker(brief, name, database={"secretRef": {"name": name, "key": "uri"}})
        await worker.apply()
        await worker.becomes("Ready", "False")
    database = {"ownerSecretRef": {"name": "database", "key": "uri"}}
    unowned = ground.flowworker(brief, "unowned", database=database, worker={"compile": "Auto"})
    await unowned.apply()
    await unowned.shows("a Ready condition", lambda frame: frame.status.get("conditions"))


async def commands(ground: Ground, worker: FlowWorker, password: Canary, payload: Canary) -> dict[str, str]:
    """What the command line says in a worker's container, also about what does not fit."""
    (pod,) = (await worker.is_at(1)).pods
    misfit = orjson.dumps({"seconds": payload.text, payload.text: 1}).decode()
    broken = f"postgresql://user:{password.text}@127.0.0.1:1/app?sslmode={password.text}"
    wanted = [(command, "") for command in COMMANDS] + [
        ("runs start flows:brief --input -", misfit),
        ("jobs send flows:errands --payload -", misfit),
        ("--debug runs start flows:brief --input -", misfit),
        ("db status --database-file /dev/stdin", broken),
        ("run flows:brief --database-file /dev/stdin", broken),
        ("--debug db doctor --database-file /dev/stdin", broken),
    ]
    return {command: await answer(ground, pod, command, text) for command, text in wanted}


async def answer(ground: Ground, pod: Object, command: str, text: str) -> str:
    """Everything that a command prints, whether it succeeds or not."""
    programs = ground.stage.programs
    inside = ("exec", "--stdin", pod["metadata"]["name"], "--container", "worker", "--", "flowworker", *command.split())
    try:
        return await programs.run([programs.kubectl_path, "--namespace", ground.namespace, *inside], stdin=text)
    except AssertionError as error:
        return str(error)


async def planted(ground: Ground, needles: tuple[str, ...]) -> set[str]:
    """The kinds of places where a search finds what was put there on purpose: the same search, the same needles."""
    secret, kube, namespace = needles[0], ground.kube, ground.namespace
    strict = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
              "seccompProfile": {"type": "RuntimeDefault"}, "readOnlyRootFilesystem": True}  # fmt: skip
    container: Object = {
        "name": "planted", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "securityContext": strict,
        "command": ["python3", "-c", PLANTED, secret], "env": [{"name": "CANARY", "value": secret}],
        "volumeMounts": [{"name": "planted", "mountPath": "/planted"}],
    }  # fmt: skip
    pod: Object = {
        "metadata": {"name": "planted"},
        "spec": {"containers": [container], "volumes": [{"name": "planted", "emptyDir": {}}]},
    }
    event: Object = {
        "metadata": {"name": "planted"}, "reason": "Planted", "message": f"about {secret}", "type": "Normal",
        "involvedObject": {"kind": "Pod", "namespace": namespace, "name": "planted"},
    }  # fmt: skip
    await kube.apply(PODS, namespace, pod)
    await kube.apply(EVENTS, namespace, event)
    await kube.patch(FLOWWORKERS, namespace, "brief", {"metadata": {"annotations": {"planted": secret}}})
    assert await kube.get(PODS, namespace, secret) is None
    await ground.database.value("UPDATE flowworker.workers SET last_error = $1 RETURNING true", secret)
    await until(lambda: is_running(kube, namespace), "the planted pod runs", every=0.3)
    found: list[Trace] = await traces(ground, needles, said={"a command": f"it says {secret}"})
    return {trace.kind for trace in found}


async def is_running(kube: Kube, namespace: str) -> bool:
    """Whether the planted pod does what it is for."""
    found = await kube.get(PODS, namespace, "planted")
    return found is not None and found["status"].get("phase") == "Running"
