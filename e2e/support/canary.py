"""Texts that are nothing but secret, and the search for them in everything that a run leaves behind.

A canary has several parts, which stand between the characters at which text is cut and parsed: output that shows only a
part of a secret is found as well. Each part is looked for as it is and in Base64.
"""

import asyncio
import secrets
import tempfile
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

import yaml
from e2e.support.ground import DATABASE_FILE, Ground
from e2e.support.postgres import SUPERUSER
from e2e.support.release import NAMESPACE
from testkit.cluster.backend import Backend
from testkit.support.kube import PODS, Object
from testkit.support.waiting import until

from flowworker.database.connection import Connection
from flowworker_operator.render.environment import PROBE_PORT

PARTS = 4
SEPARATORS = ("/", "#", "@x:", "?")
AROUND = 60
"""Characters shown at both sides of what was found."""

PATHS = ("/livez", "/readyz", "/metrics", "/state")

SCHEMAS = ("flowworker", "pgflow", "pgmq")
PAYLOADS = frozenset({
    ("pgflow", "runs", "input"), ("pgflow", "runs", "output"), ("pgflow", "step_states", "output"),
    ("pgflow", "step_tasks", "output"),
})  # fmt: skip
"""Columns whose purpose is to hold payloads; of queues and archives it is `message`."""
COLUMNS = """
    SELECT table_schema, table_name, column_name
    FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
    WHERE table_schema = ANY($1) AND table_type = 'BASE TABLE'
"""
RESULTS = "{column} #- '{{flowworker,result}}'"
"""Of jobs that were done: the value that the handler returned, which is payload."""

PROCESSES = """
cat > "$1"
for folder in /proc/[0-9]*; do
    for file in cmdline environ; do
        if grep -qaFf "$1" "$folder/$file" 2>/dev/null; then
            echo "$file of $(tr '\\0' ' ' < "$folder/cmdline" | cut -c 1-80)"
        fi
    done
done
rm -f "$1"
"""
"""For the node: the needles come in by standard input, so that this very search has them neither as arguments nor in
its environment."""

INSIDE = """
import os, urllib.request
needles, paths, port, excepted = {arguments!r}
excepted = os.path.join(os.path.realpath(excepted), "")
for path in paths:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{{port}}{{path}}", timeout=10) as answer:
            said = answer.read()
    except urllib.error.HTTPError as error:
        said = error.read()
    except OSError:
        continue
    for needle in needles:
        if needle in said:
            at = said.index(needle)
            print("served", path, said[max(0, at - 60):at + 60])
for folder, folders, files in os.walk("/"):
    if folder == "/":
        folders[:] = [one for one in folders if one not in ("proc", "sys", "dev")]
    for name in files:
        place = os.path.join(folder, name)
        if place.startswith(excepted) or not os.path.isfile(place):
            continue
        try:
            with open(place, "rb") as file:
                content = file.read()
        except OSError:
            continue
        if any(needle in content for needle in needles):
            print("file", place)
"""
"""For a container: what it serves to itself, and the files it can read."""


@dataclass(frozen=True, slots=True)
class Canary:
    """One secret text."""

    text: str
    parts: tuple[str, ...]

    @classmethod
    def hatch(cls) -> Self:
        """A new one, like which there is no other."""
        parts = tuple(secrets.token_hex(8) for _ in range(PARTS))
        return cls("".join(a + b for pair in zip(parts, SEPARATORS, strict=True) for a, b in [pair]), parts)

    @property
    def quoted(self) -> str:
        """As a part of a URI."""
        return quote(self.text, safe="")

    @property
    def needles(self) -> tuple[str, ...]:
        """What must not be found: each part, and what Base64 makes of it wherever it stands in a longer text."""
        return (*self.parts, *(one for part in self.parts for one in _in_base64(part)))


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Trace:
    """A place where a canary was found."""

    kind: str
    place: str
    around: str = ""


async def traces(ground: Ground, needles: Sequence[str], *, said: Mapping[str, str]) -> list[Trace]:
    """Everything but Secrets, the file that holds one, and the columns whose purpose is to hold payloads.

    Args:
        ground: whose pods and database are looked into; of the cluster it is everything.
        needles: what is looked for.
        said: what commands have printed, by their name.
    """
    found = [*_seen("said", said, needles)]
    for look in (objects, logs, inside, rows):
        found += await look(ground, needles)
    for search in (daemons, processes):
        found += await asyncio.to_thread(search, ground.stage.cluster, needles)
    return sorted(found)


async def objects(ground: Ground, needles: Sequence[str]) -> Iterable[Trace]:
    """All that the API server gives out, events, status and managed fields included; not Secrets."""
    kubectl = ground.stage.programs.kubectl
    kinds = (await kubectl("api-resources", "--verbs=list,get", "-o", "name")).split()
    assert "events" in kinds
    chosen = ",".join(kind for kind in kinds if kind != "secrets")
    listed = await kubectl("get", chosen, "--all-namespaces", "--show-managed-fields", "-o", "json")
    items: list[Object] = yaml.load(listed, yaml.CSafeLoader)["items"]
    texts = {f"{one['kind']} {one['metadata']['name']}": yaml.safe_dump(one) for one in items}
    return [trace for name, text in texts.items() for trace in _seen(name.split()[0], {name: text}, needles)]


async def logs(ground: Ground, needles: Sequence[str]) -> Iterable[Trace]:
    """What all containers of all pods have written, also the one before a restart, and operators that were killed."""
    texts = {"operators": "\n".join(await ground.stage.release.log(ground.kube))}
    for namespace in (ground.namespace, NAMESPACE, ground.stage.server.namespace):
        for pod in await ground.kube.list(PODS, namespace):
            name = pod["metadata"]["name"]
            for extra in ((), ("--previous",)):
                with suppress(AssertionError):  # there was none before
                    texts[" ".join((name, *extra))] = await ground.stage.programs.kubectl(
                        "--namespace", namespace, "logs", name, "--all-containers", *extra
                    )
    return _seen("log", texts, needles)


async def inside(ground: Ground, needles: Sequence[str]) -> Iterable[Trace]:
    """What every running container serves on its probe port, and the files in it."""
    arguments = ([one.encode() for one in needles], PATHS, PROBE_PORT, str(Path(DATABASE_FILE).parent))
    script = INSIDE.format(arguments=arguments)
    found: list[Trace] = []
    for namespace in (ground.namespace, NAMESPACE):
        for pod in await ground.kube.list(PODS, namespace):
            name = pod["metadata"]["name"]
            for status in pod["status"].get("containerStatuses", ()):
                if "running" not in status["state"]:
                    continue
                command = ("exec", "--stdin", name, "--container", status["name"], "--", "python3", "-")
                programs = ground.stage.programs
                try:
                    printed = await programs.run(
                        [programs.kubectl_path, "--namespace", namespace, *command], stdin=script, deadline=120
                    )
                except AssertionError:
                    # A worker without a usable connection string ends again and again, also at this moment. Its log
                    # is looked at; one that goes on must let itself be looked into.
                    await until(_has_ended(ground, namespace, name, status), f"{name} has ended meanwhile", every=0.3)
                    continue
                for line in printed.splitlines():
                    kind, _, place = line.partition(" ")
                    found.append(Trace(kind=kind, place=f"{name}: {place}"))
    return found


def _has_ended(ground: Ground, namespace: str, name: str, status: Object) -> Callable[[], Awaitable[bool]]:
    """Whether a container is no longer the one that it was."""

    async def ended() -> bool:
        pod = await ground.kube.get(PODS, namespace, name)
        now = () if pod is None else pod["status"].get("containerStatuses", ())
        return not any(one.get("containerID") == status["containerID"] and "running" in one["state"] for one in now)

    return ended


def processes(cluster: Backend, needles: Sequence[str]) -> Iterable[Trace]:
    """Arguments and environments of all processes of the nodes, without exception: workers get secrets as files."""
    found: list[str] = []
    for node in cluster.capabilities.nodes:
        done = cluster.run(["sh", "-c", PROCESSES, "sh", "/tmp/needles"], node=node, stdin="\n".join(needles) + "\n")
        assert done.returncode == 0, done.stderr
        found += done.stdout.splitlines()
    return [Trace(kind=line.partition(" ")[0], place=line) for line in found]


def daemons(cluster: Backend, needles: Sequence[str]) -> Iterable[Trace]:
    """What the daemons of the cluster have logged, and the audit log."""
    with tempfile.TemporaryDirectory() as folder:
        cluster.export_logs(Path(folder))
        texts = {one.name: one.read_text(errors="replace") for one in Path(folder).rglob("*") if one.is_file()}
    return _seen("daemon", texts, needles)


async def rows(ground: Ground, needles: Sequence[str]) -> Iterable[Trace]:
    """All columns of the database but those whose purpose is to hold payloads."""

    async def work(connection: Connection) -> list[Trace]:
        found: list[Trace] = []
        for schema, table, column in await connection.fetch(COLUMNS, list(SCHEMAS)):
            queue = schema == "pgmq" and table.startswith(("q_", "a_"))
            if (schema, table, column) in PAYLOADS or (queue and column == "message"):
                continue
            text = RESULTS.format(column=column) if queue and column == "headers" else column
            values = await connection.fetch(f'SELECT DISTINCT ({text})::text AS value FROM {schema}."{table}"')
            said = {f"{schema}.{table}.{column}": "\n".join(str(one["value"]) for one in values)}
            found += _seen("row", said, needles)
        return found

    way = ground.database.way
    return await way.ask(work, database=ground.database.name, role=SUPERUSER)


def _seen(kind: str, texts: Mapping[str, str], needles: Sequence[str]) -> Iterable[Trace]:
    for place, text in texts.items():
        at = min((text.find(needle) for needle in needles if needle in text), default=-1)
        if at >= 0:
            yield Trace(kind=kind, place=place, around=text[max(0, at - AROUND) : at + AROUND])


def _in_base64(text: str) -> Iterable[str]:
    """What of its Base64 does not depend on what stands before and after it, at each of three offsets."""
    for offset in range(3):
        encoded = b64encode(b"\0" * offset + text.encode() + b"\0" * 3).decode()
        first = -(-offset * 8 // 6)
        yield encoded[first : (offset + len(text)) * 8 // 6]
