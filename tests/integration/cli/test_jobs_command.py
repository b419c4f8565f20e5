from tests.integration.cli.calling import Cli
from tests.integration.client.acting import end_job

from flowworker.database.connection import Connection


async def test_send_list_and_show_a_job(cli: Cli, mail: str) -> None:
    sent = await cli("jobs", "send", mail, "--payload", '{"to": "a"}', "--header", "tenant=x", "--delay", "60")
    assert (sent.code, sent.err) == (0, "")
    job_id = sent.out.strip()
    listed = await cli("jobs", "list", mail)
    assert listed.out.splitlines()[1].split()[:3] == [job_id, "delayed", "0"]
    shown = await cli("jobs", "show", mail, job_id)
    assert 'payload:  {"to": "a"}' in shown.out
    assert (await cli("jobs", "show", mail, job_id, "-o", "json")).json["headers"] == {"tenant": "x"}
    assert (await cli("jobs", "list", mail, "--state", "failed", "-o", "json")).json == []


async def test_send_with_a_reference_checks_the_payload(cli: Cli, mail: str) -> None:
    refused = await cli("jobs", "send", "shop_flows:mail", "--payload", "[1]")
    assert refused.code == 65
    assert "Traceback" not in refused.err
    sent = await cli("jobs", "send", "shop_flows:mail", "--payload", "-", "-o", "json", stdin='{"to": "a"}')
    assert sent.code == 0
    assert sent.json["msg_id"] >= 1


async def test_retry_sends_a_failed_job_again_once(cli: Cli, worker: Connection, mail: str) -> None:
    job_id = (await cli("jobs", "send", mail, "--payload", "1")).out.strip()
    refused = await cli("jobs", "retry", mail, job_id)
    assert refused.code == 65
    assert "is waiting" in refused.err
    await end_job(worker, mail, int(job_id), status="failed", error="no", stacktrace="line 1\nline 2", attempt=2)
    first, second = await cli("jobs", "retry", mail, job_id), await cli("jobs", "retry", mail, job_id)
    assert first.code == second.code == 0
    assert first.out == second.out
    shown = await cli("jobs", "show", mail, job_id)
    assert f"retried:  as job {first.out.strip()}" in shown.out
    assert shown.out.endswith("line 1\nline 2\n")


async def test_an_unknown_job_is_an_error(cli: Cli, mail: str) -> None:
    answer = await cli("jobs", "show", mail, "7")
    assert answer.code == 65
    assert answer.err == "error: queue 'mail' has no job 7; list them with `flowworker jobs list mail`\n"


async def test_a_payload_is_stored_as_it_was_given(cli: Cli, worker: Connection, mail: str) -> None:
    payload = '{"price": 12345678901234567890.123456789, "rate": 1.50}'
    sent = await cli("jobs", "send", mail, "--payload", payload)
    assert (sent.code, sent.err) == (0, "")
    stored = await worker.fetchval("SELECT message::text FROM pgmq.q_mail")
    assert stored == '{"rate": 1.50, "price": 12345678901234567890.123456789}'
    assert "12345678901234567890.123456789" in (await cli("jobs", "show", mail, sent.out.strip())).out
    assert "12345678901234567890.123456789" in (await cli("jobs", "show", mail, sent.out.strip(), "-o", "json")).out


async def test_a_payload_that_the_database_would_not_keep_is_refused(cli: Cli, mail: str) -> None:
    for payload, problem in (('{"a": 1, "a": 2}', "the key 'a' twice"), ("[NaN]", "NaN"), (r'"\u0000"', "U+0000")):
        refused = await cli("jobs", "send", mail, "--payload", payload)
        assert refused.code == 64, refused
        assert problem in refused.err
    assert (await cli("jobs", "list", mail, "-o", "json")).json == []


async def test_cancel_archives_a_job_and_may_be_repeated(admin_cli: Cli, mail: str) -> None:
    job_id = (await admin_cli("jobs", "send", mail, "--payload", "1")).out.strip()
    cancelled = await admin_cli("jobs", "cancel", mail, job_id, "--reason", "sent twice", "--actor", "ada")
    assert (cancelled.code, cancelled.err) == (0, "")
    assert cancelled.out == f"job {job_id} of queue mail is cancelled: it was waiting\n"
    again = await admin_cli("jobs", "cancel", mail, job_id)
    assert "was cancelled before" in again.out
    assert "by ada: sent twice" in again.out
    shown = await admin_cli("jobs", "show", mail, job_id)
    assert "state:    cancelled" in shown.out
    assert "error:    cancelled by ada: sent twice" in shown.out
    assert (await admin_cli("jobs", "cancel", mail, job_id, "-o", "json")).json["is_new"] is False


async def test_cancel_of_an_unknown_job_ends_with_65(admin_cli: Cli, mail: str) -> None:
    refused = await admin_cli("jobs", "cancel", mail, "7")
    assert refused.code == 65
    assert refused.err == "error: queue 'mail' has no job 7; list them with `flowworker jobs list mail`\n"
