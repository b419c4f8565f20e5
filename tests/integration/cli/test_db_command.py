import pytest
from tests.acceptance.pooler import PROGRAM, transaction_pooler
from tests.conftest import STRANGER_ROLE, WORKER_ROLE, Database
from tests.integration.cli.calling import Cli


async def test_install_reports_grants_and_can_be_repeated(empty_database: Database, cli: Cli) -> None:
    def parts(text: str) -> list[list[str]]:
        return [line.split()[:2] for line in text.splitlines()[1:5]]

    owner = Cli(folder=cli.folder, dsn=empty_database.dsn)
    first = await owner("db", "install", "--role", WORKER_ROLE)
    assert (first.code, first.err) == (0, "")
    names = ["flowworker", "pgmq", "realtime", "pgflow"]
    assert parts(first.out) == [[name, "installed"] for name in names]
    assert f'GRANT USAGE ON SCHEMA "pgflow" TO "{WORKER_ROLE}";' in first.out
    again = await owner("db", "install", "--output", "json")
    assert [component["action"] for component in again.json["components"]] == ["kept"] * 4
    assert again.json["grants"] == []
    worker = Cli(folder=cli.folder, dsn=empty_database.worker_dsn)
    assert (await worker("runs", "list")).code == 0


async def test_install_grants_to_every_role_that_is_named(empty_database: Database, cli: Cli) -> None:
    owner = Cli(folder=cli.folder, dsn=empty_database.dsn)
    both = (WORKER_ROLE, STRANGER_ROLE)
    for option in ("--role", "--client-role", "--admin-role"):
        answer = await owner("db", "install", *(part for role in both for part in (option, role)))
        assert answer.code == 0
        for role in both:
            assert f'GRANT USAGE ON SCHEMA "pgflow" TO "{role}";' in answer.out


async def test_install_of_our_schema_alone(empty_database: Database, cli: Cli) -> None:
    owner = Cli(folder=cli.folder, dsn=empty_database.dsn)
    report = (await owner("db", "install", "--only", "flowworker", "-o", "json")).json
    assert [component["action"] for component in report["components"]] == ["installed", "skipped", "skipped", "skipped"]


async def test_what_is_announced_about_runs_is_chosen_at_the_install_and_shown(
    empty_database: Database, cli: Cli
) -> None:
    owner = Cli(folder=cli.folder, dsn=empty_database.dsn)
    await owner("db", "install")
    assert "realtime:   our stand-in, announces: ends\n" in (await owner("db", "status")).out
    switched = await owner("db", "install", "--run-events", "none")
    assert "realtime    updated  our stand-in, announces: none" in switched.out
    assert "realtime:   our stand-in, announces: none\n" in (await owner("db", "status")).out
    assert (await owner("db", "status", "-o", "json")).json["capabilities"]["run_events"] == "none"
    refused = await owner("db", "install", "--only", "flowworker", "--run-events", "all")
    assert refused.code == 64
    assert "--run-events" in refused.err


async def test_install_without_rights_ends_with_77(empty_database: Database, cli: Cli) -> None:
    answer = await Cli(folder=cli.folder, dsn=empty_database.worker_dsn)("db", "install")
    assert answer.code == 77
    assert "GRANT CREATE ON DATABASE" in answer.err


async def test_install_for_a_role_that_does_not_exist_ends_with_64(owner_cli: Cli) -> None:
    answer = await owner_cli("db", "install", "--role", "nobody_here")
    assert answer.code == 64
    assert "CREATE ROLE" in answer.err


async def test_status_shows_what_is_installed(cli: Cli, shop: str, mail: str, empty_database: Database) -> None:
    shown = await cli("db", "status")
    assert shown.code == 0
    assert "pgflow:     core 0.8 or 0.9" in shown.out
    assert "role may:   work, report\n" in shown.out
    assert [line.split()[0] for line in shown.out.split("\n\n")[2].splitlines()] == ["QUEUE", "mail", "shop"]
    status = (await cli("db", "status", "--output", "json")).json
    assert [queue["name"] for queue in status["queues"]] == ["mail", "shop"]
    empty = await Cli(folder=cli.folder, dsn=empty_database.dsn)("db", "status")
    assert "pgmq:       missing" in empty.out


async def test_doctor_finds_nothing_wrong_with_a_good_database(cli: Cli) -> None:
    answer = await cli("doctor")
    assert answer.code == 0
    assert {line.split()[0] for line in answer.out.splitlines()} == {"ok"}
    assert (await cli("db", "doctor")).out == answer.out


async def test_doctor_ends_with_65_and_says_what_to_do(cli: Cli, database: Database) -> None:
    stranger = Cli(folder=cli.folder, dsn=database.server.dsn(database.name, STRANGER_ROLE))
    answer = await stranger("doctor", "shop_flows:shop", "-o", "json")
    assert answer.code == 65
    found = {finding["check"]: finding for finding in answer.json if finding["level"] == "error"}
    assert {"rights", "flows"} <= found.keys()
    assert "--role" in found["rights"]["advice"]


async def test_a_client_s_role_starts_runs_and_sends_jobs_and_does_not_drain(
    owner_cli: Cli, database: Database, shop: str, mail: str
) -> None:
    granted = await owner_cli("db", "install", "--client-role", STRANGER_ROLE)
    assert granted.code == 0
    assert f'GRANT SELECT, INSERT ON "pgmq"."q_mail" TO "{STRANGER_ROLE}";' in granted.out
    program = Cli(folder=owner_cli.folder, dsn=database.server.dsn(database.name, STRANGER_ROLE))
    started = await program("runs", "start", "shop", "--input", '{"items": ["a"]}', "-o", "json")
    assert started.code == 0
    assert (await program("runs", "show", started.json["run_id"])).code == 0
    assert (await program("jobs", "send", "mail", "--payload", "1")).code == 0
    assert (await program("jobs", "list", "mail")).code == 0
    assert (await program("workers", "list")).code == 0
    assert (await program("workers", "drain", "--slug", "shop")).code != 0


@pytest.mark.skipif(PROGRAM is None, reason="needs PgBouncer: apt-get install pgbouncer")
async def test_doctor_names_the_setting_that_a_pooler_needs(cli: Cli, database: Database) -> None:
    async with transaction_pooler(database, reset=False) as dsn:
        wrong = await Cli(folder=cli.folder, dsn=dsn)("doctor")
        right = await Cli(folder=cli.folder, dsn=dsn, environment={"FLOWWORKER_STATEMENT_CACHE": "false"})("doctor")
    assert wrong.code == 65
    assert "FLOWWORKER_STATEMENT_CACHE=false" in wrong.out
    assert (right.code, "FLOWWORKER_DIRECT_DATABASE_URL" in right.out) == (0, True)
