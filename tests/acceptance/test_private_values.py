"""What leaves the worker by itself (log, `/state`, stored errors, its report) holds no payload and no secret."""

import asyncio
import json
import socket
import urllib.error
import urllib.request
from dataclasses import replace
from typing import Any

import pytest
from tests.acceptance.served import MODULE, Served, serving
from tests.acceptance.support import Stage
from tests.integration.cli.calling import Cli

from flowworker import Flow
from flowworker.database.jobs_admin import JobState
from flowworker.errors import ExitCode
from flowworker.redaction import remember
from flowworker.telemetry.events import RunFailed

CARD = "CARD-4111-7777"
PASSWORD = "pa55-of-the-database"
TOKEN = "t0ken+of/the=environment"

HEAD = """
import logging, os
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union
from pydantic import BaseModel, Field, field_validator
from flowworker import Queue, TaskContext

users = Queue("users", max_attempts=1, timeout=60)
log = logging.getLogger("app")

class Card(BaseModel):
    number: int

class Checked(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def check(cls, text: str) -> str:
        raise ValueError(f"{text} is refused")

class Order(BaseModel):
    case: str
    text: str = ""
    cards: dict[str, Any] = {}

class A(BaseModel):
    kind: Literal["a"]

class B(BaseModel):
    kind: Literal["b"]

class Tagged(BaseModel):
    one: Annotated[Union[A, B], Field(discriminator="kind")]

def work(order: Order) -> Card:
    match order.case:
        case "output":
            return {"number": order.text}
        case "own":
            Card.model_validate({"number": order.text})
        case "key":
            from pydantic import TypeAdapter
            TypeAdapter(dict[str, int]).validate_python({order.text: "x"})
        case "validator":
            Checked(text=order.text)
        case "tag":
            Tagged.model_validate({"one": {"kind": order.text}})
        case "chained":
            try:
                Card(number=order.text)
            except ValueError as error:
                raise RuntimeError("no card") from error
        case "quoted":
            try:
                Card(number=order.text)
            except ValueError as error:
                raise RuntimeError(f"no card: {error}")
        case "group":
            raise ExceptionGroup("several", [RuntimeError("one"), caught(order.text)])
        case "logged":
            try:
                Checked(text=order.text)
            except ValueError:
                log.exception("refused")
            raise RuntimeError("see the log")

def caught(text):
    try:
        Card(number=text)
    except ValueError as error:
        return error
"""

MODES = {
    "loop": "\n@users.job\nasync def job(order: Order) -> Card:\n    return work(order)\n",
    "thread": "\n@users.job\ndef job(order: Order) -> Card:\n    return work(order)\n",
    "process": "\n@users.job(run_in='process')\ndef job(order: Order) -> Card:\n    return work(order)\n",
}
CASES = ("output", "own", "key", "validator", "tag", "chained", "quoted", "group")
PROBES = {"FLOWWORKER_PROBE_PORT": "0"}


async def get(served: Served, path: str, *, host: str = "127.0.0.1") -> tuple[int, str]:
    """What the probe server of a worker answers, with its status."""
    await served.says("probes and metrics on port")
    line = next(line["event"] for line in served.lines() if line["event"].startswith("probes and metrics"))
    url = f"http://{host}:{line.rpartition(' ')[2]}{path}"

    def ask() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(ask)


async def shown_by(served: Served) -> str:
    """All that a worker shows by itself: its log, its state, its report, and the errors that it stores."""
    state = (await get(served, "/state"))[1]
    archived = await served.stage.owner.fetch(f"SELECT headers::text AS text FROM pgmq.a_{MODULE}")
    reports = await served.stage.owner.fetch("SELECT last_error AS text FROM flowworker.workers")
    metrics = (await get(served, "/metrics"))[1]
    return "\n".join(
        [served.written, served.printed, state, metrics, *(str(row["text"]) for row in (*archived, *reports))]
    )


@pytest.mark.parametrize("mode", MODES)
async def test_no_value_of_a_payload_leaves_the_worker_by_itself(stage: Stage, cli: Cli, mode: str) -> None:
    async with serving(stage, cli, HEAD + MODES[mode], more=PROBES) as served:
        for case in CASES:
            job = await served.do({"case": case, "text": CARD})
            assert job.state is JobState.FAILED, case
            assert job.error, case
        for payload in ({"case": CARD, "text": [CARD]}, {"case": [CARD]}, CARD, [CARD], {CARD: 1}):
            assert (await served.do(payload)).state is JobState.FAILED
        await served.error_reported()
        everything = await shown_by(served)
        assert "CARD" not in everything
        for place in ("number: Input should be a valid integer", "text: Input should be a valid string (got list)"):
            assert place in everything


async def test_values_of_payloads_are_quoted_where_that_was_asked_for(stage: Stage, cli: Cli) -> None:
    asked = {**PROBES, "FLOWWORKER_LOG_PAYLOADS": "true"}
    async with serving(stage, cli, HEAD + MODES["process"], more=asked) as served:
        assert f"(got '{CARD}')" in str((await served.do({"case": "output", "text": CARD})).error)
        assert f"(got '{CARD}')" in str((await served.do({"case": ["x"], "text": CARD, "cards": CARD})).error)
        assert CARD in str((await served.do({"case": "quoted", "text": CARD})).error)


LEAKS = """
import base64, json, logging, os
from collections import namedtuple
from dataclasses import dataclass
from urllib.parse import quote
from flowworker import Queue, TaskContext

users = Queue("users", max_attempts=1, timeout=60)
log = logging.getLogger("app")
PASSWORD, TOKEN = os.environ["THE_PASSWORD_IS"][::-1], os.environ["DEPLOY_TOKEN"]
LOGIN = "s3same-13"
Pair = namedtuple("Pair", "user password")

@dataclass
class Login:
    user: str
    password: str

class Hostile:
    def __init__(self, secret): self.secret = secret
    def __str__(self): raise SystemExit(f"password={self.secret}")
    __repr__ = __str__

class Liar:
    @property
    def __class__(self): raise RuntimeError(f"password={PASSWORD}")
    def __str__(self): return 7

class Items(dict):
    def items(self): raise RuntimeError(f"password={PASSWORD}")

class Meta(type):
    @property
    def __name__(cls): raise RuntimeError(f"password={PASSWORD}")

class Odd(metaclass=Meta):
    def __str__(self): raise RuntimeError("odd")

def say() -> None:
    log.info("plain", extra={
        "login": Login("me", "s3same-1"), "pair": Pair("me", "s3same-2"), "password": "s3same-3",
        "headers": [("Authorization", "Bearer s3same-4"), ("api_key", "s3same-5")],
        "argv": ["x", "--token", "s3same-6"], "nested": {"client_secret": {"old": "s3same-7"}}, "kept": 7,
        "by_value": PASSWORD, "encoded": quote(TOKEN, safe=""),
    })
    log.info("hostile", extra={
        "a": Hostile("s3same-8"), "b": Liar(), "c": Items(x=1), "d": Odd(), "e": {Hostile("s3same-9"): 1},
        "f": [Liar()], "g": b"password=s3same-10", "h": float("nan"), "i": 1 << 90, "kept": 8,
    })
    log.info("%s and %s", Hostile("s3same-11"), "password=s3same-12")
    try:
        raise ConnectionError(f"no luck with {PASSWORD}", Login("me", LOGIN))
    except ConnectionError:
        log.exception("failed with %s", TOKEN)

def fail() -> None:
    say()
    raise RuntimeError(f"cannot log in with {PASSWORD} at https://x/?token={TOKEN} [{quote(TOKEN, safe='')}]")
"""


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("mode", ["loop", "process"])
async def test_no_secret_that_the_process_knows_leaves_the_worker_by_itself(
    stage: Stage, cli: Cli, mode: str, form: str
) -> None:
    jobs = {
        "loop": "\n@users.job\nasync def job(_: int) -> None:\n    fail()\n",
        "process": "\n@users.job(run_in='process')\ndef job(_: int) -> None:\n    fail()\n",
    }
    file = cli.folder / "dsn"
    file.write_text(cli.variables()["FLOWWORKER_DATABASE_URL"].replace("@", f":{PASSWORD}@"))
    known = {"DEPLOY_TOKEN": TOKEN, "THE_PASSWORD_IS": PASSWORD[::-1], "FLOWWORKER_LOG_FORMAT": form,
             "FLOWWORKER_DATABASE_FILE": str(file), "FLOWWORKER_DATABASE_URL": ""}  # fmt: skip
    async with serving(stage, cli, LEAKS + jobs[mode], form=form, more=known) as served:
        job = await served.do(1)
        assert job.state is JobState.FAILED
        assert "cannot log in with *** at https://x/?token=***" in str(job.error)
        await served.error_reported()
        archived = await stage.owner.fetch(f"SELECT headers::text AS text FROM pgmq.a_{MODULE}")
        reports = await stage.owner.fetch("SELECT last_error AS text FROM flowworker.workers")
        everything = "\n".join([served.written, served.printed, *(str(row["text"]) for row in (*archived, *reports))])
        assert "cannot log in with ***" in everything
        for secret in ("s3same", PASSWORD, TOKEN, "t0ken", "the%3Denvironment"):
            assert secret not in everything
        if form == "json":
            lines = {line["event"]: line for line in served.lines()}
            assert (lines["plain"]["kept"], lines["hostile"]["kept"]) == (7, 8)
            assert lines["plain"]["login"] == {"user": "me", "password": "***"}
            assert "%s and %s (its arguments do not fit it)" in lines
            assert "incomplete" not in served.written


KNOWN = "kn0wn-s3same!of-the-environment"
SHAPED = (
    "ALTER ROLE app PASSWORD 's3same-1'", "https://s3same-2@github.com/a", "curl -u app:s3same-3 https://x",
    '{"value": "s3same-4", "name": "DB_PASSWORD"}', "pass\u200bword=s3same-5", "Set-Cookie: session=s3same-6",
)  # fmt: skip
EVERYWHERE = """
import os
from flowworker import Flow, Queue, TaskContext

SAID = f"no luck with {os.environ['THE_TOKEN']}, " + %r
users = Queue("users", max_attempts=2, base_delay=0, timeout=60)
refused = Flow("refused", max_attempts=2, base_delay=0, timeout=60)

def fail():
    try:
        raise RuntimeError(SAID)
    except RuntimeError as error:
        raise ConnectionError(SAID + " word" * 100_000 + SAID) from error
"""
HANDLERS = {
    "loop": "@users.job\nasync def job(_: int) -> None:\n    fail()\n"
    "@refused.step\nasync def only(_: int) -> None:\n    fail()\n",
    "thread": "@users.job\ndef job(_: int) -> None:\n    fail()\n"
    "@refused.step\ndef only(_: int) -> None:\n    fail()\n",
    "process": "@users.job(run_in='process')\ndef job(_: int) -> None:\n    fail()\n"
    "@refused.step(run_in='process')\ndef only(_: int) -> None:\n    fail()\n",
}
TABLES = (
    "pgmq.q_users", "pgmq.a_users", "pgmq.q_refused", "pgmq.a_refused", "pgflow.runs", "pgflow.step_states",
    "pgflow.step_tasks", "pgflow.workers", "flowworker.workers",
)  # fmt: skip


@pytest.mark.parametrize("mode", HANDLERS)
async def test_no_secret_in_an_exception_leaves_the_worker_by_any_exit(stage: Stage, cli: Cli, mode: str) -> None:
    last_words = cli.folder / "last words"
    last_words.touch()
    more = {**PROBES, "THE_TOKEN": KNOWN, "FLOWWORKER_TERMINATION_LOG": str(last_words)}
    module = EVERYWHERE % ", ".join(SHAPED) + HANDLERS[mode]
    targets = (f"{MODULE}:users", f"{MODULE}:refused")
    flow: Any = {}
    exec((EVERYWHERE % "" + HANDLERS[mode]).replace("os.environ['THE_TOKEN']", "'x'"), flow)
    await stage.create(flow["refused"])
    async with serving(stage, cli, module, targets=targets, more=more) as served:
        run_id = (await stage.client.start("refused", 1)).run_id
        job = await served.do(1)
        run = await stage.client.wait(run_id, timeout=40)
        await served.error_reported()
        exits = {path: (await get(served, path))[1] for path in ("/state", "/metrics", "/livez", "/readyz")}
        for table in TABLES:
            rows = await stage.owner.fetch(f"SELECT one::text AS text FROM {table} AS one")
            exits[table] = "\n".join(row["text"] for row in rows)
        exits |= {"client, job": repr(job), "client, run": repr(run)}
        for command in (("jobs", "show", MODULE, str(job.msg_id)), ("runs", "show", str(run_id)), ("workers", "list")):
            answer = await cli(*command, "--output", "json")
            exits[" ".join(command[:2])] = answer.out + answer.err
        await served.stopped()
        exits |= {"log": served.written, "standard output": served.printed, "last words": last_words.read_text()}
    for name, text in exits.items():
        assert "s3same" not in text, name
    named = {"log", "/state", "pgmq.a_users", "pgflow.step_tasks", "flowworker.workers", "client, job", "jobs show",
             "runs show", "workers list"}  # fmt: skip
    assert {name for name in named if "no luck with ***" not in exits[name]} == set()


async def test_no_secret_in_an_exception_at_import_is_among_the_last_words_of_a_worker(cli: Cli) -> None:
    last_words = cli.folder / "last words"
    last_words.touch()
    (cli.folder / "users.py").write_text(EVERYWHERE % ", ".join(SHAPED) + "fail()\n")
    environment = {"THE_TOKEN": KNOWN, "FLOWWORKER_TERMINATION_LOG": str(last_words)}
    answer = await replace(cli, environment={**cli.environment, **environment})("run", "users:users", "--debug")
    assert answer.code == ExitCode.HANDLER
    assert "no luck with ***" in last_words.read_text()
    assert "no luck with ***" in answer.err
    assert "s3same" not in answer.out + answer.err + last_words.read_text()


async def test_no_secret_in_an_exception_is_in_an_event(stage: Stage) -> None:
    said = f"no luck with {KNOWN}, " + ", ".join(SHAPED)
    remember(KNOWN)
    flow = Flow("refused", max_attempts=1, timeout=60)

    @flow.step
    async def only(_: int) -> None:
        raise ConnectionError(said + " word" * 100_000) from RuntimeError(said)

    await stage.create(flow)
    async with stage.worker(flow):
        await stage.client.start(flow, 1)
        await stage.heard.first(RunFailed)
    everything = "\n".join(map(repr, stage.heard.events))
    assert "no luck with ***" in everything
    assert "s3same" not in everything


async def test_the_state_is_for_this_machine_unless_exposed(stage: Stage, cli: Cli) -> None:
    module = LEAKS.replace("os.environ", "dict(THE_PASSWORD_IS='x', DEPLOY_TOKEN='y') or os.environ")
    module += "\n@users.job\nasync def job(_: int) -> None:\n    raise RuntimeError('password=s3same-1 at postgres://a:s3same-2@b/c')\n"
    other = own_address()
    async with serving(stage, cli, module, more=PROBES) as served:
        await served.do(1)
        await served.error_reported()
        status, text = await get(served, "/state")
        assert (status, "s3same" in text) == (200, False)
        (worker,) = json.loads(text)
        assert worker["counters"]["last_error"] == "users: RuntimeError: password=*** at postgres://a:***@b/c"
        status, text = await get(served, "/state", host=other)
        assert (status, "last_error" in text) == (403, False)
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await get(served, path, host=other))[0] == 200, path
        await served.stopped()
    await stage.owner.execute(f"SELECT pgmq.drop_queue('{MODULE}')")
    async with serving(stage, cli, module, more=PROBES, FLOWWORKER_EXPOSE_STATE="true") as served:
        assert (await get(served, "/state", host=other))[0] == 200


def own_address() -> str:
    """An address of this machine under which it looks like another one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but its loopback")
        address: Any = probe.getsockname()
        return str(address[0])
