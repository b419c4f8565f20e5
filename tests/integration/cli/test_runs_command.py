from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from testkit.support.waiting import until
from tests.conftest import ADMIN_ROLE, WORKER_ROLE, Database
from tests.integration.cli.calling import Cli
from tests.integration.client.acting import complete, fail

from flowworker.client import Client
from flowworker.database.connection import Connection

BLOCKED = f"""
    SELECT count(*) FROM pg_stat_activity
    WHERE usename = '{ADMIN_ROLE}' AND datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0
"""


@pytest.fixture
async def client(database: Database) -> Client:
    return Client(database.worker_dsn)


async def test_start_prints_the_id_and_list_shows_it(cli: Cli, shop: str) -> None:
    started = await cli("runs", "start", shop, "--input", '{"items": ["a"]}')
    assert (started.code, started.err) == (0, "")
    run_id = str(UUID(started.out.strip()))
    listed = await cli("runs", "list")
    assert (listed.code, listed.err) == (0, "")
    titles, row = listed.out.splitlines()
    assert titles.split() == ["RUN", "FLOW", "STATUS", "STEPS", "AGE", "TOOK", "ERROR"]
    assert row.split()[:4] == [run_id, "shop", "started", "0/2"]


async def test_start_is_idempotent_with_a_run_id(cli: Cli, shop: str) -> None:
    run_id = str(uuid4())
    for _ in range(2):
        assert (await cli("runs", "start", shop, "--run-id", run_id)).out.strip() == run_id
    assert len((await cli("runs", "list", "--output", "json")).json) == 1


async def test_start_with_a_reference_checks_the_input(cli: Cli, shop: str) -> None:
    refused = await cli("runs", "start", "shop_flows:shop", "--input", '{"items": 7}')
    assert refused.code == 65
    assert "items" in refused.err
    assert "Traceback" not in refused.err
    started = await cli("runs", "start", "shop_flows:shop", "--input", '{"items": ["a"]}', "-o", "json")
    assert started.json["input"] == {"items": ["a"]}


async def test_the_input_may_come_from_a_file_or_standard_input(cli: Cli, shop: str) -> None:
    (cli.folder / "order.json").write_text('{"items": ["file"]}')
    from_file = await cli("runs", "start", shop, "--input", "@order.json", "-o", "json")
    piped = await cli("runs", "start", shop, "--input", "-", "-o", "json", stdin='["pipe"]')
    assert (from_file.json["input"], piped.json["input"]) == ({"items": ["file"]}, ["pipe"])


async def test_show_prints_steps_and_errors(cli: Cli, client: Client, worker: Connection, shop: str) -> None:
    async with client:
        run = await client.start(shop, 1)
    await fail(worker, run, "items", "no stock")
    shown = await cli("runs", "show", str(run.run_id))
    assert shown.code == 0
    assert "status:  failed" in shown.out
    assert "error:   no stock" in shown.out
    as_json = (await cli("runs", "show", str(run.run_id), "--output", "json")).json
    assert [step["status"] for step in as_json["steps"]] == ["failed", "created"]
    assert as_json["tasks"][0]["error"] == "no stock"


async def test_watch_prints_what_moves_and_ends_with_the_run(
    cli: Cli, client: Client, worker: Connection, shop: str
) -> None:
    async with client:
        run = await client.start(shop, 1)
    watching = await cli.start("runs", "watch", str(run.run_id))
    assert watching.stdout is not None
    assert b"step items started" in await watching.stdout.readline()
    await complete(worker, run, "items", ["a"])
    await complete(worker, run, "pack", "A")
    rest, errors = await watching.communicate()
    assert (watching.returncode, errors) == (0, b"")
    assert b"step items completed" in rest
    assert rest.splitlines()[-1].startswith(f"run {run.run_id} completed in ".encode())


async def test_watch_of_a_failing_run_ends_with_1(cli: Cli, client: Client, worker: Connection, shop: str) -> None:
    async with client:
        run = await client.start(shop, 1)
    await fail(worker, run, "items", "no stock")
    for output in ("table", "json"):
        watched = await cli("runs", "watch", str(run.run_id), "--output", output)
        assert watched.code == 1
        assert "no stock" in watched.out


async def test_watch_gives_up_in_time(cli: Cli, client: Client, shop: str) -> None:
    async with client:
        run = await client.start(shop, 1)
    watched = await cli("runs", "watch", str(run.run_id), "--timeout", "0.2")
    assert watched.code == 1
    assert watched.err == f"error: run {run.run_id} has not ended within 0.2 s\n"


async def test_retry_starts_the_same_again(cli: Cli, client: Client, worker: Connection, shop: str) -> None:
    async with client:
        run = await client.start(shop, {"items": ["a"]})
    refused = await cli("runs", "retry", str(run.run_id))
    assert refused.code == 65
    assert "still under way" in refused.err
    await fail(worker, run, "items", "no stock")
    retried = await cli("runs", "retry", str(run.run_id), "-o", "json")
    assert retried.json["input"] == {"items": ["a"]}
    assert retried.json["run_id"] != str(run.run_id)
    assert (await cli("runs", "retry", str(run.run_id), "-o", "json")).json == retried.json
    assert f"retried as: {retried.json['run_id']}" in (await cli("runs", "show", str(run.run_id))).out
    assert f"retry of: {run.run_id}" in (await cli("runs", "show", retried.json["run_id"])).out


async def test_a_retry_that_has_ended_is_named(cli: Cli, client: Client, worker: Connection, shop: str) -> None:
    async with client:
        run = await client.start(shop, 1)
        await fail(worker, run, "items", "no stock")
        again = await client.retry(run.run_id)
    await fail(worker, again, "items", "no stock")
    retried = await cli("runs", "retry", str(run.run_id))
    assert retried.err == f"run {run.run_id} was retried before, as {again.run_id}, which is failed\n"
    assert retried.out == f"{again.run_id}\n"


async def test_a_list_that_is_cut_says_so(cli: Cli, client: Client, shop: str) -> None:
    async with client:
        for number in range(2):
            await client.start(shop, number)
    cut, whole = await cli("runs", "list", "--limit", "1"), await cli("runs", "list", "--limit", "2")
    last = cut.out.splitlines()[1].split()[0]
    assert cut.err == f"these are the newest 1; there are more: add --after {last}, or --limit\n"
    assert (len(cut.out.splitlines()), len(whole.out.splitlines()), whole.err) == (2, 3, "")
    rest = await cli("runs", "list", "--limit", "1", "--after", last)
    assert (rest.out.splitlines()[1].split()[0], rest.err) == (whole.out.splitlines()[2].split()[0], "")


async def test_list_filters(cli: Cli, client: Client, worker: Connection, shop: str) -> None:
    async with client:
        run = await client.start(shop, {"customer": {"id": 7}})
        await client.start(shop, 2)
    await fail(worker, run, "items", "no stock")

    async def count(*options: str) -> int:
        return len((await cli("runs", "list", "-o", "json", *options)).json)

    assert await count() == 2
    assert await count("--status", "failed") == 1
    assert await count("--flow", "other") == 0
    assert await count("--since", "1h", "--limit", "1") == 1
    assert await count("--until", "1h") == 0
    assert await count("--since", "2020-01-01", "--until", "2020-01-01T08:30+01:00") == 0
    assert await count("--error", "STOCK") == 1
    assert await count("--id", str(run.run_id)[:13]) == 1
    assert await count("--input", "customer.id=7") == 1
    assert await count("--input", "customer.id=8") == 0
    oldest = await cli("runs", "list", "-o", "json", "--oldest-first", "--limit", "1")
    assert oldest.json[0]["run_id"] == str(run.run_id)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--since", "yesterday"], "--since takes a time ago, such as 90s, 30m, 24h or 7d"),
        (["--until", "9" * 400 + "d"], "--until takes a time ago"),
        (["--input", "customer"], "--input takes PATH=VALUE"),
        (["--input", "=7"], "--input takes PATH=VALUE"),
        (["--input", "a=1", "--input", "a=2"], "--input asks for two values of a"),
        (["--id", "xyz"], "no run's id begins with 'xyz'"),
        (["--after", "xyz"], "'xyz' is no run id"),
    ],
)
async def test_a_search_that_makes_no_sense_ends_with_64(cli: Cli, options: list[str], problem: str) -> None:
    refused = await cli("runs", "list", *options)
    assert refused.code == 64
    assert problem in refused.err


async def test_an_input_is_stored_as_it_was_given(cli: Cli, client: Client, shop: str) -> None:
    text = '{"items": ["a"], "budget": 12345678901234567890.120}'
    for target in (shop, "shop_flows:shop"):
        started = await cli("runs", "start", target, "--input", text)
        assert (started.code, started.err) == (0, "")
        async with client:
            assert (await client.run(UUID(started.out.strip()))).run.input_json.decode() == text
        assert "12345678901234567890.120" in (await cli("runs", "show", started.out.strip(), "-o", "json")).out


async def test_cancel_says_what_it_did_and_may_be_repeated(admin_cli: Cli, client: Client, shop: str) -> None:
    async with client:
        run = await client.start(shop, 1)
    cancelled = await admin_cli("runs", "cancel", str(run.run_id), "--reason", "wrong customer", "--actor", "ada")
    assert (cancelled.code, cancelled.err) == (0, "")
    assert cancelled.out == f"run {run.run_id} is cancelled, and its open tasks have ended: 1 waiting, 0 at work\n"
    again = await admin_cli("runs", "cancel", str(run.run_id))
    assert again.code == 0
    assert "was cancelled before" in again.out
    assert "by ada: wrong customer" in again.out
    as_json = (await admin_cli("runs", "cancel", str(run.run_id), "-o", "json")).json
    assert (as_json["actor"], as_json["is_new"], as_json["queued"]) == ("ada", False, 1)
    assert "error:   cancelled by ada: wrong customer" in (await admin_cli("runs", "show", str(run.run_id))).out


async def test_who_cancels_is_the_login_unless_a_name_is_given(admin_cli: Cli, client: Client, shop: str) -> None:
    async with client:
        run = await client.start(shop, 1)
    named = replace(admin_cli, environment={"LOGNAME": "grace"})
    assert (await named("runs", "cancel", str(run.run_id), "-o", "json")).json["actor"] == "grace"


async def test_a_run_that_is_completed_is_not_cancelled(
    admin_cli: Cli, client: Client, worker: Connection, shop: str
) -> None:
    async with client:
        run = await client.start(shop, 1)
    await complete(worker, run, "items", [])
    refused = await admin_cli("runs", "cancel", str(run.run_id))
    assert refused.code == 65
    assert refused.err == (
        f"error: run {run.run_id} is completed already; only a run that is under way can be cancelled\n"
    )


async def test_cancel_without_the_right_ends_with_77(cli: Cli, client: Client, shop: str) -> None:
    async with client:
        run = await client.start(shop, 1)
    refused = await cli("runs", "cancel", str(run.run_id))
    assert refused.code == 77
    assert "flowworker db install --admin-role ROLE" in refused.err


async def test_a_command_killed_while_it_cancels_is_finished_by_the_next_one(
    admin_cli: Cli, client: Client, worker: Connection, owner: Connection, shop: str
) -> None:
    async with client:
        run = await client.start(shop, 1)
    async with worker.transaction():
        await worker.execute("SELECT FROM pgflow.runs FOR UPDATE")
        process = await admin_cli.start("runs", "cancel", str(run.run_id))
        await until(lambda: owner.fetchval(BLOCKED), "the command waits for the run")
        process.kill()
        await process.communicate()
    cancelled = await admin_cli("runs", "cancel", str(run.run_id), "-o", "json")
    assert cancelled.code == 0
    assert await owner.fetchval("SELECT count(*) FROM flowworker.requests WHERE outcome = 'cancelled'") == 1
    assert await owner.fetchval("SELECT count(*) FROM pgmq.q_shop") == 0


async def test_stuck_lists_what_does_not_go_on_and_why(cli: Cli, client: Client, shop: str) -> None:
    async with client:
        run = await client.start(shop, 1)
    assert (await cli("runs", "stuck", "-o", "json")).json == []
    stuck = await cli("runs", "stuck", "--unserved-for", "0")
    assert (stuck.code, stuck.err) == (0, "")
    titles, row = stuck.out.splitlines()
    assert titles.split() == ["RUN", "FLOW", "AGE", "TASK", "SINCE", "WHY"]
    assert row.startswith(f"{run.run_id}  shop")
    assert row.endswith("no worker serves the flow: start one")


FAILED = """
    SELECT count(*) FROM generate_series(1, $1::integer) AS n, pgflow.start_flow('shop', to_jsonb(n))
"""
FAIL_ALL = "UPDATE pgflow.runs SET status = 'failed', failed_at = clock_timestamp() WHERE status = 'started'"
BY_STATUS = "SELECT status, count(*) FROM pgflow.runs GROUP BY status ORDER BY status"


async def test_retry_of_many_shows_them_first_and_wants_a_yes(cli: Cli, owner: Connection, shop: str) -> None:
    await owner.execute(FAILED, 12)
    await owner.execute(FAIL_ALL)
    many = ("runs", "retry", "--failed", "--since", "24h", "--flow", shop)
    shown = await cli(*many, "--dry-run")
    assert shown.code == 0
    assert shown.out.startswith("12 runs failed to retry: 12 of shop\n")
    assert "and 2 more" in shown.out
    assert (await cli(*many, "--dry-run", "-o", "json")).json["runs"] == 12
    refused = await cli(*many)
    assert (refused.code, refused.err) == (64, "error: add --yes to retry 12 runs, or --dry-run to look at them only\n")
    assert await owner.fetchval("SELECT count(*) FROM flowworker.requests") == 0
    done = await cli(*many, "--yes", "--reason", "stock is back", "--actor", "ada")
    assert (done.code, done.err) == (0, "request 1: 12 of 12\n")
    assert done.out.endswith("request 1: 12 runs retried\n")
    assert (await cli(*many, "--yes")).out.endswith("nothing to do\n")


async def test_a_bulk_retry_killed_between_batches_is_finished_by_the_next_call(
    cli: Cli, owner: Connection, worker: Connection, shop: str
) -> None:
    await owner.execute(FAILED, 1100)
    await owner.execute(FAIL_ALL)
    middle = await owner.fetchval("SELECT run_id FROM pgflow.runs ORDER BY started_at, run_id OFFSET 700 LIMIT 1")
    many = ("runs", "retry", "--failed", "--since", "24h", "--yes")
    transaction = worker.transaction()
    await transaction.start()
    await worker.execute("SELECT pgflow.start_flow('shop', '1', flowworker.retry_id($1))", middle)
    process = await cli.start(*many)
    blocked = BLOCKED.replace(ADMIN_ROLE, WORKER_ROLE)
    await until(lambda: owner.fetchval(blocked), "the second batch waits")
    process.kill()
    await process.communicate()
    await transaction.rollback()
    await until(lambda: _none(owner, blocked), "the killed session has ended")
    assert [tuple(row) for row in await owner.fetch(BY_STATUS)] == [("failed", 1100), ("started", 500)]
    await owner.execute(FAIL_ALL)
    finished = await cli(*many, "-o", "json")
    assert (finished.code, finished.json["runs"], finished.json["request_id"]) == (0, 1100, 1)
    assert "this goes on with request 1" in finished.err
    assert [tuple(row) for row in await owner.fetch(BY_STATUS)] == [("failed", 1600), ("started", 600)]


async def test_a_bulk_cancellation_killed_in_the_middle_is_finished_by_the_next_call(
    admin_cli: Cli, owner: Connection, worker: Connection, shop: str
) -> None:
    await owner.execute(FAILED, 30)
    middle = await owner.fetchval("SELECT run_id FROM pgflow.runs ORDER BY started_at, run_id OFFSET 10 LIMIT 1")
    many = ("runs", "cancel", "--flow", shop, "--yes", "--actor", "ada")
    async with worker.transaction():
        await worker.execute("SELECT FROM pgflow.runs WHERE run_id = $1 FOR UPDATE", middle)
        process = await admin_cli.start(*many)
        await until(lambda: owner.fetchval(BLOCKED), "the command waits for the run")
        process.kill()
        await process.communicate()
    await until(lambda: _none(owner, BLOCKED), "the killed session has ended")
    finished = await admin_cli(*many, "-o", "json")
    assert (finished.code, finished.json["runs"]) == (0, 30)
    assert await owner.fetchval("SELECT count(*) FROM flowworker.requests WHERE outcome = 'cancelled'") == 30


async def _none(owner: Connection, question: str) -> bool:
    return await owner.fetchval(question) == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["retry"], "name the RUN, or add --failed"),
        (["retry", "--flow", "shop"], "name the RUN, or add --failed"),
        (["retry", str(UUID(int=1)), "--failed"], "--failed is for many runs"),
        (["retry", "--failed", "--wait"], "--failed is for many runs"),
        (["cancel"], "name the RUN, or say which runs"),
        (["cancel", str(UUID(int=1)), "--flow", "shop"], "give either the RUN or options"),
    ],
)
async def test_one_run_and_many_are_not_mixed(cli: Cli, arguments: list[str], problem: str) -> None:
    refused = await cli("runs", *arguments)
    assert refused.code == 64
    assert problem in refused.err
