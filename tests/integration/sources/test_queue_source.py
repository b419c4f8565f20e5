"""Jobs of a plain pgmq queue."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from testkit.support.waiting import until
from tests.conftest import Database
from tests.integration.sources.prolonging import prolong
from tests.integration.sources.world import (
    RELEASED,
    World,
    claim_all,
    completed,
    failed,
    finish_one,
    for_each_outcome,
    hold_aside,
    report,
)

from flowworker.database import queue_jobs
from flowworker.database.capabilities import detect
from flowworker.database.claims import CLAIM_PATIENCE
from flowworker.database.connection import Connection
from flowworker.database.heartbeat import register
from flowworker.database.identifiers import insert_channel
from flowworker.database.link import Link, Links
from flowworker.database.queue_jobs import LEASE
from flowworker.database.records import Completed, SourceKind, TaskResult, Verdict
from flowworker.database.server_clock import ServerClock
from flowworker.database.statements import load
from flowworker.database.stranded import CRASH_BUDGET
from flowworker.definition.queue import Queue
from flowworker.errors import DatabaseUnavailableError, UnknownQueueError, UnknownRunError
from flowworker.runtime.sources import queue_source
from flowworker.runtime.sources.queue_source import THOROUGH_INTERVAL, QueueSource

mail = Queue("mail", max_attempts=3, base_delay=2, timeout=20)


async def test_a_claimed_job_carries_payload_and_figures(world: World) -> None:
    source = await world.queue_source(mail)
    msg_id = await world.send("mail", {"to": "ann"}, {"trace": 1})
    (job,) = await claim_all(source)
    assert (job.msg_id, job.run_id, job.step_slug, job.task_index) == (msg_id, None, "mail", 0)
    assert (job.attempt, job.max_attempts, job.timeout, job.losses, job.read_count) == (1, 3, 20.0, 0, 1)
    assert (job.input, job.flow_input, job.headers, job.started_at) == (b'{"to": "ann"}', None, b'{"trace": 1}', None)


async def test_a_claim_that_was_held_up_on_its_way_reads_nothing_and_the_next_one_does(world: World) -> None:
    worker_id = uuid4()
    await world.queue_source(mail, worker_id=worker_id)
    features = await detect(world.owner)
    msg_id = await world.send("mail", 1)
    clock = ServerClock()

    async def claim() -> list[int]:
        found = await queue_jobs.claim(world.owner, features, "mail", worker_id, 10, clock=clock, watched=True)
        return [job.msg_id for job in found.jobs]

    clock.set(await world.owner.fetchval("SELECT clock_timestamp()") - CLAIM_PATIENCE - timedelta(seconds=1))
    with pytest.raises(DatabaseUnavailableError, match=r"6\.\d s late and read nothing"):
        await claim()
    assert await world.owner.fetchval("SELECT read_ct FROM pgmq.q_mail") == 0
    assert await claim() == [msg_id]
    assert await claim() == []


async def test_a_job_is_leased_for_a_short_time_whatever_its_timeout(world: World) -> None:
    source = await world.queue_source(mail)
    msg_id = await world.send("mail", 1)
    await claim_all(source)
    assert await world.seconds_until_visible("mail", msg_id) == pytest.approx(LEASE, abs=1)


@pytest.mark.parametrize("output", [None, False, 0, "", {"a": [1]}])
async def test_a_done_job_moves_to_the_archive_with_its_result(world: World, output: object) -> None:
    worker_id = uuid4()
    source = await world.queue_source(mail, worker_id=worker_id)
    msg_id = await world.send("mail", 1, {"trace": 1})
    (job,) = await claim_all(source)
    assert (await finish_one(source, job, completed(output))).verdict is Verdict.COMPLETED
    headers = await world.archived("mail", msg_id)
    assert headers == {
        "trace": 1,
        "flowworker": {
            "status": "done", "result": output, "attempt": 1, "duration_ms": 10.0, "worker_id": str(worker_id),
        },
    }  # fmt: skip
    row = await world.owner.fetchrow("SELECT * FROM pgmq.a_mail")
    assert row is not None
    assert (row["msg_id"], row["read_ct"], row["message"]) == (msg_id, 1, b"1")
    assert row["last_read_at"] is not None
    assert await world.owner.fetchval("SELECT count(*) FROM pgmq.q_mail") == 0


async def test_a_failed_attempt_is_counted_and_waits_for_its_backoff(world: World) -> None:
    source = await world.queue_source(mail)
    msg_id = await world.send("mail", 1)
    for attempt in (1, 2):
        (job,) = await claim_all(source)
        assert (job.attempt, job.losses) == (attempt, 0)
        receipt = await finish_one(source, job, failed("no luck"))
        assert (receipt.verdict, receipt.retry_in) == (Verdict.RETRYING, 2 * 2**attempt)
        assert await world.seconds_until_visible("mail", msg_id) == pytest.approx(2 * 2**attempt, abs=1)
        ours = (await world.headers("mail", msg_id))["flowworker"]
        assert (ours["failures"], ours["error"]) == (attempt, "no luck")
        await world.make_visible("mail")


async def test_the_last_attempt_archives_error_and_stack_trace(world: World) -> None:
    worker_id = uuid4()
    source = await world.queue_source(Queue("mail", max_attempts=1), worker_id=worker_id)
    msg_id = await world.send("mail", 1)
    (job,) = await claim_all(source)
    assert (await finish_one(source, job, failed("boom \0"))).verdict is Verdict.FAILED
    assert (await world.archived("mail", msg_id))["flowworker"] == {
        "status": "failed", "error": "boom \N{REPLACEMENT CHARACTER}", "stacktrace": "Traceback …", "attempt": 1,
        "failures": 1, "duration_ms": 10.0, "worker_id": str(worker_id),
    }  # fmt: skip


async def test_a_handler_chooses_the_delay_or_the_end(world: World) -> None:
    source = await world.queue_source(mail)
    later, never = await world.send("mail", 1), await world.send("mail", 2)
    first, second = await claim_all(source)
    finish = await source.finish(
        [
            TaskResult(task=first, outcome=failed(retry_after=0.5)),
            TaskResult(task=second, outcome=failed(final=True)),
        ]
    )
    assert [(r.verdict, r.retry_in) for r in finish.receipts] == [(Verdict.RETRYING, 0.5), (Verdict.FAILED, None)]
    assert await world.seconds_until_visible("mail", later) <= 0.5
    assert (await world.archived("mail", never))["flowworker"]["status"] == "failed"


async def test_a_released_job_is_startable_at_once_its_attempt_not_charged_and_sleepers_wake(world: World) -> None:
    source, other = await world.queue_source(mail), await world.queue_source(mail)
    await world.send("mail", 1)
    heard = await world.heard(insert_channel("mail"))
    for releases in range(6):
        (job,) = await claim_all(source if releases % 2 else other)
        assert (job.attempt, job.losses) == (1, 0)
        receipt = await finish_one(source if releases % 2 else other, job, RELEASED)
        assert receipt.verdict is Verdict.RELEASED
    async with asyncio.timeout(5):
        assert await heard.get() == insert_channel("mail")


@pytest.mark.parametrize("outcome", [completed(1), failed(), failed(final=True), RELEASED])
async def test_a_result_is_refused_once_the_job_was_read_again(world: World, outcome: Completed) -> None:
    source, other = await world.queue_source(mail), await world.queue_source(mail)
    msg_id = await world.send("mail", 1)
    (stale,) = await claim_all(source)
    await world.let_lease_lapse("mail")
    (current,) = await claim_all(other)
    assert (current.attempt, current.losses) == (1, 0)
    before = await world.owner.fetchrow("SELECT * FROM pgmq.q_mail")
    assert (await finish_one(source, stale, outcome)).verdict is Verdict.SUPERSEDED
    assert await world.owner.fetchrow("SELECT * FROM pgmq.q_mail") == before
    assert (await finish_one(other, current, completed(2))).verdict is Verdict.COMPLETED
    assert (await world.archived("mail", msg_id))["flowworker"]["result"] == 2


REPLAY = """
    INSERT INTO pgmq.q_mail (msg_id, enqueued_at, vt, message, headers) OVERRIDING SYSTEM VALUE
    SELECT msg_id, enqueued_at, now(), message, headers FROM pgmq.a_mail
"""


async def test_a_job_that_its_archive_refuses_is_put_off_longer_each_time(world: World) -> None:
    """It was copied back from the archive, under the number that is still taken there."""
    source = await world.queue_source(mail)
    msg_id = await world.send("mail", 1)
    (job,) = await claim_all(source)
    await finish_one(source, job, completed(1))
    await world.owner.execute(REPLAY)
    for parks, wait in enumerate((60, 240, 960)):
        other = await world.send("mail", 2)
        jobs = await claim_all(source)
        assert {job.msg_id for job in jobs} == {msg_id, other}
        finish = await source.finish([TaskResult(task=job, outcome=failed(final=True)) for job in jobs])
        verdicts = {receipt.result.task.msg_id: receipt for receipt in finish.receipts}
        assert verdicts[msg_id].verdict is Verdict.RELEASED
        assert "duplicate key" in (verdicts[msg_id].error or "")
        assert (await world.archived("mail", other))["flowworker"]["status"] == "failed"
        assert await world.seconds_until_visible("mail", msg_id) == pytest.approx(wait, abs=10)
        assert await claim_all(source) == []
        headers = await world.owner.fetchval("SELECT headers -> 'flowworker' ->> 'parks' FROM pgmq.q_mail")
        assert headers == str(parks + 1)
        await world.make_visible("mail")
    assert (await world.archived("mail", msg_id))["flowworker"]["result"] == 1


async def test_a_lapsed_lease_that_no_worker_took_still_lets_the_job_finish(world: World) -> None:
    source = await world.queue_source(mail)
    await world.send("mail", 1)
    (job,) = await claim_all(source)
    await world.make_visible("mail")
    assert await prolong(source, [job]) == set()
    assert await world.seconds_until_visible("mail", job.msg_id) == pytest.approx(LEASE, abs=1)
    assert (await finish_one(source, job, completed())).verdict is Verdict.COMPLETED


async def test_jobs_that_were_lost_are_named_when_leases_are_prolonged(world: World) -> None:
    source, other = await world.queue_source(mail), await world.queue_source(mail)
    for n in range(3):
        await world.send("mail", n)
    taken, kept, done = await claim_all(source)
    await world.let_lease_lapse("mail", taken.msg_id)
    await claim_all(other)
    await finish_one(source, done, completed())
    assert await prolong(source, [taken, kept, done]) == {taken.msg_id, done.msg_id}


async def test_prolonging_never_waits_for_a_job_that_is_being_finished(world: World) -> None:
    source = await world.queue_source(mail)
    await world.send("mail", 1)
    (job,) = await claim_all(source)
    async with world.owner.transaction():
        await world.owner.execute("SELECT FROM pgmq.q_mail FOR UPDATE")
        async with asyncio.timeout(5):
            assert await prolong(source, [job]) == set()


@for_each_outcome
async def test_repeating_a_write_whose_reply_was_lost_reports_what_was_written(
    world: World, outcome: Completed, verdict: Verdict
) -> None:
    source = await world.queue_source(mail)
    await world.send("mail", 1)
    (job,) = await claim_all(source)
    results = [TaskResult(task=job, outcome=outcome)]
    verdicts = [(await source.finish(results)).receipts[0].verdict for _ in range(2)]
    assert verdicts == [verdict, verdict]


async def test_a_job_that_keeps_killing_workers_fails_at_the_crash_budget(world: World) -> None:
    source = await world.queue_source(mail)
    msg_id = await world.send("mail", 1)
    for losses in range(CRASH_BUDGET + 1):
        victim_id = uuid4()
        victim = await world.queue_source(mail, worker_id=victim_id)
        (job,) = await claim_all(victim)
        assert (job.losses, job.attempt) == (losses, 1)
        await source.recover([await world.peer(victim_id)])
        await world.make_visible("mail")
    claim = await source.claim(10, ())
    assert (claim.tasks, claim.read, claim.unstartable) == ([], 1, 1)
    ours = (await world.archived("mail", msg_id))["flowworker"]
    assert (ours["status"], ours["error"].split(";")[0]) == ("failed", "4 workers died while they ran this task")


async def test_a_job_whose_holder_is_not_known_to_be_gone_waits_past_its_lease(world: World) -> None:
    """After an outage every lease has lapsed at once; a worker that claims first must not take what others run."""
    holder_id = uuid4()
    holder, other = await world.queue_source(mail, worker_id=holder_id), await world.queue_source(mail)
    msg_id = await world.send("mail", 1)
    await claim_all(holder)
    await world.make_visible("mail")
    assert await claim_all(other) == []
    await world.let_lease_lapse("mail")
    assert [job.msg_id for job in await claim_all(other)] == [msg_id]


async def test_a_long_queue_does_not_delay_the_jobs_of_a_lost_worker(world: World) -> None:
    """Most claims from it look only at jobs that are not leased; one in each second looks at the others too."""
    victim_id = uuid4()
    victim, other = await world.queue_source(mail, worker_id=victim_id), await world.queue_source(mail)
    held = await world.send("mail", 1)
    await claim_all(victim)
    for number in range(40):
        await world.send("mail", number)
    first, second = await other.claim(2, ()), await other.claim(2, ())
    await world.owner.execute("UPDATE flowworker.workers SET state = 'lost' WHERE worker_id = $1", victim_id)
    await world.owner.execute("UPDATE pgmq.q_mail SET vt = '-infinity' WHERE msg_id = $1", held)
    skipping = await other.claim(2, ())
    assert [len(claim.tasks) for claim in (first, second, skipping)] == [2, 2, 2]
    assert held not in {job.msg_id for job in skipping.tasks}

    async def taken() -> bool:
        return held in {job.msg_id for job in (await other.claim(2, ())).tasks}

    await until(taken, "a claim looks at jobs that are held", every=THOROUGH_INTERVAL / 4)


async def test_a_worker_that_has_just_come_takes_only_jobs_of_no_living_holder(world: World) -> None:
    """It cannot know how long the holder had no database, so it first watches whether that comes back."""
    holder = await world.queue_source(mail, worker_id=uuid4())
    newcomer = await world.queue_source(mail, has_watched=False)
    await world.send("mail", 1)
    await claim_all(holder)
    await world.let_lease_lapse("mail")
    free = await world.send("mail", 2)
    assert [job.msg_id for job in await claim_all(newcomer)] == [free]


@pytest.mark.parametrize("state", ["lost", "stopped"])
async def test_a_job_whose_holder_is_gone_is_taken_when_its_lease_ends(world: World, state: str) -> None:
    holder_id = uuid4()
    holder, other = await world.queue_source(mail, worker_id=holder_id), await world.queue_source(mail)
    await world.send("mail", 1)
    await claim_all(holder)
    await world.owner.execute("UPDATE flowworker.workers SET state = $2 WHERE worker_id = $1", holder_id, state)
    assert await claim_all(other) == []
    await world.make_visible("mail")
    (job,) = await claim_all(other)
    assert job.losses == (state == "lost")


async def test_a_loss_needs_a_handler_that_had_begun(world: World) -> None:
    victim_id = uuid4()
    victim, other = await world.queue_source(mail, worker_id=victim_id), await world.queue_source(mail)
    await world.send("mail", 1)
    assert (await victim.claim(10, ())).tasks
    await other.recover([await world.peer(victim_id)])
    await world.make_visible("mail")
    (job,) = await claim_all(other)
    assert (job.losses, job.read_count) == (0, 2)


async def test_unanswered_reads_are_no_losses(world: World) -> None:
    """Claims over a slow link: read again and again, never begun, by a worker that lives."""
    source = await world.queue_source(mail)
    await world.send("mail", 1)
    for reads in range(1, 8):
        (job,) = (await source.claim(10, ())).tasks
        assert (job.losses, job.read_count) == (0, reads)
        await world.make_visible("mail")


@pytest.mark.parametrize(
    "ours",
    [
        {"losses": 2**64 - 1, "failures": -5, "holder": "x", "claimed_at": 1e300},
        {"losses": [1], "failures": {"a": 1}, "holder": 5, "claimed_at": "soon"},
        {"losses": 1.5, "failures": None, "holder": "-" * 36, "claimed_at": None},
        [1, 2],
        "text",
    ],
)
async def test_whatever_stands_in_the_headers_a_job_is_claimed(world: World, ours: object) -> None:
    source = await world.queue_source(mail)
    sent = [await world.send("mail", 1, {"flowworker": ours, "trace": 1}), await world.send("mail", 2)]
    claim = await source.claim(10, ())
    assert {job.msg_id for job in claim.tasks} <= set(sent)
    assert claim.read == 2


@pytest.mark.parametrize("headers", ['{"trace": 1e400}', "[1]", '"text"', "7", "null"])
async def test_headers_of_any_kind_stay_what_they_were(world: World, headers: str) -> None:
    source = await world.queue_source(mail)
    msg_id: int = await world.owner.fetchval("SELECT pgmq.send('mail', '1'::jsonb, $1::jsonb)", headers.encode())
    (job,) = await claim_all(source)
    assert (job.msg_id, job.attempt) == (msg_id, 1)
    found = await world.owner.fetchval(
        "SELECT headers - 'flowworker' FROM pgmq.q_mail WHERE jsonb_typeof(headers) = 'object'"
    )
    if headers.startswith("{"):
        assert b"trace" in found


@pytest.mark.parametrize("state", ["lost", "stopped"])
async def test_a_worker_that_was_marked_lost_claims_nothing(world: World, state: str) -> None:
    worker_id = uuid4()
    source = await world.queue_source(mail, worker_id=worker_id)
    await world.send("mail", 1)
    await world.owner.execute("UPDATE flowworker.workers SET state = $2 WHERE worker_id = $1", worker_id, state)
    claim = await source.claim(10, ())
    assert (claim.fenced, claim.tasks) == (True, [])
    assert await world.owner.fetchval("SELECT read_ct FROM pgmq.q_mail") == 0


REFUSE = """
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN IF {condition} THEN RAISE 'not this one'; END IF; RETURN NEW; END$$;
    CREATE TRIGGER refuse BEFORE UPDATE ON pgmq.q_mail FOR EACH ROW EXECUTE FUNCTION public.refuse();
"""


@pytest.mark.parametrize("condition", ["OLD.msg_id = {poison}", "OLD.msg_id = {poison} AND NEW.read_ct > OLD.read_ct"])
async def test_a_job_that_cannot_be_claimed_is_put_off_or_passed_over_and_the_others_go_on(
    world: World, condition: str
) -> None:
    source = await world.queue_source(mail)
    another_flow = asyncio.create_task(hold_aside(source))
    poison = await world.send("mail", 0)
    others = [await world.send("mail", number) for number in range(1, 4)]
    await world.owner.execute(REFUSE.format(condition=condition.format(poison=poison)))
    claimed: list[int] = []

    async def all_others() -> bool:
        try:
            claimed.extend(job.msg_id for job in (await source.claim(10, ())).tasks)
        except asyncpg.RaiseError:
            return False
        return len(claimed) == len(others)

    await until(all_others, "the others are claimed")
    assert claimed == others
    assert await world.owner.fetchval("SELECT read_ct FROM pgmq.q_mail WHERE msg_id = $1", poison) == 0
    assert not another_flow.done()
    another_flow.cancel()
    await asyncio.wait({another_flow})


async def test_plans_are_renewed_on_each_connection_that_claims(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_source, "THOROUGH_INTERVAL", 60.0)
    source = await world.queue_source(mail)
    links = source._links  # pyright: ignore[reportPrivateUsage]
    renewed: list[str] = []

    async def listen(connection: Connection, name: str) -> None:
        connection.add_query_logger(
            lambda query: renewed.append(name) if query.query == load("session/replan") else None
        )

    await links.claim.run(lambda connection: listen(connection, "claim"))
    await links.aside.run(lambda connection: listen(connection, "aside"))
    for number in range(50):
        await world.send("mail", number)
    for _ in range(3):  # the first looks at jobs of other workers as well, with a plan of its own
        assert len(await claim_all(source)) == 10
    assert renewed == ["claim"]
    other_flow = asyncio.create_task(links.claim.run(lambda connection: connection.execute("SELECT pg_sleep(60)")))
    for _ in range(2):
        assert len(await claim_all(source)) == 10
    assert renewed == ["claim", "aside"]
    other_flow.cancel()
    await asyncio.wait({other_flow})


LAPSE = "UPDATE pgmq.q_mail SET vt = clock_timestamp() WHERE headers -> 'flowworker' ? 'holder'"
"""The leases of jobs that a worker holds; what was put off stays so."""


async def test_a_job_that_kills_its_worker_takes_the_one_beside_it_along_no_more_than_twice(world: World) -> None:
    """They start apart, the culprit first at the latest when they were lost together for the third time."""
    alive = await world.queue_source(mail)
    culprit, innocent = [await world.send("mail", name) for name in ("culprit", "innocent")]
    for _ in range(CRASH_BUDGET + 2):
        victim_id = uuid4()
        victim = await world.queue_source(mail, worker_id=victim_id)
        if culprit not in {job.msg_id for job in await claim_all(victim)}:
            break
        await alive.recover([await world.peer(victim_id)])
        await world.owner.execute(LAPSE)
    headers = await world.archived("mail", culprit)
    assert headers["flowworker"]["status"] == "failed"
    assert await world.archived("mail", innocent) is None
    await world.make_visible("mail")
    (job,) = await claim_all(alive)
    assert (job.msg_id, job.losses) == (innocent, 2)


async def test_losses_are_forgotten_after_progress(world: World) -> None:
    victim_id = uuid4()
    victim, other = await world.queue_source(mail, worker_id=victim_id), await world.queue_source(mail)
    await world.send("mail", 1)
    await claim_all(victim)
    await other.recover([await world.peer(victim_id)])
    await world.make_visible("mail")
    (job,) = await claim_all(other)
    assert job.losses == 1
    await other.forgive([job])
    await world.make_visible("mail")
    (job,) = await claim_all(other)
    assert job.losses == 0


async def test_failures_and_releases_are_no_losses(world: World) -> None:
    source = await world.queue_source(mail)
    await world.send("mail", 1)
    for outcome in (RELEASED, failed(retry_after=0), RELEASED, failed(retry_after=0), RELEASED):
        (job,) = await claim_all(source)
        await finish_one(source, job, outcome)
    (job,) = await claim_all(source)
    assert (job.attempt, job.losses) == (3, 0)


async def test_a_result_of_a_queue_that_was_dropped_ends_no_job_of_its_successor(world: World) -> None:
    """A new queue counts from one again, so its first job has the id and the reads of the old one's first job."""
    late, source = await world.queue_source(mail), await world.queue_source(mail)
    await world.send("mail", 1)
    (old,) = await claim_all(late)
    await world.owner.execute("SELECT pgmq.drop_queue('mail')")
    await world.owner.execute("SELECT pgmq.create('mail')")
    await world.send("mail", 2)
    (new,) = await claim_all(source)
    assert (new.msg_id, new.read_count) == (old.msg_id, old.read_count)
    for outcome in (completed(), failed()):
        assert (await finish_one(late, old, outcome)).verdict is Verdict.SUPERSEDED
    assert (await finish_one(source, new, completed())).verdict is Verdict.COMPLETED


@pytest.mark.parametrize("output", [b'"\\u0000"', b"{broken"])
async def test_a_result_the_database_refuses_fails_that_attempt_alone(world: World, output: bytes) -> None:
    source = await world.queue_source(mail)
    good, bad = await world.send("mail", 1), await world.send("mail", 2)
    first, second = await claim_all(source)
    finish = await source.finish(
        [
            TaskResult(task=first, outcome=completed()),
            TaskResult(task=second, outcome=Completed(output=output, duration=0.1)),
        ]
    )
    assert [receipt.verdict for receipt in finish.receipts] == [Verdict.COMPLETED, Verdict.RETRYING]
    assert await world.archived("mail", good) is not None
    assert "the database refused the output" in (await world.headers("mail", bad))["flowworker"]["error"]


@pytest.mark.parametrize("headers", [[1], "text", 7, {"flowworker": "text"}, {"flowworker": {"failures": "many"}}])
async def test_odd_headers_do_no_harm(world: World, headers: object) -> None:
    source = await world.queue_source(mail)
    msg_id = await world.send("mail", 1, headers)
    (job,) = await claim_all(source)
    assert job.attempt == 1
    await finish_one(source, job, failed(retry_after=0))
    (job,) = await claim_all(source)
    assert job.attempt == 2
    await finish_one(source, job, completed())
    assert (await world.archived("mail", msg_id))["flowworker"]["status"] == "done"


async def test_a_message_without_a_body_is_json_null(world: World) -> None:
    source = await world.queue_source(mail)
    await world.owner.execute("INSERT INTO pgmq.q_mail (vt) VALUES (now())")
    (job,) = await claim_all(source)
    assert job.input == b"null"


async def test_a_queue_name_with_capitals_works(world: World) -> None:
    source = await world.queue_source(Queue("Mixed_Case"))
    await world.send("Mixed_Case", 1)
    (job,) = await claim_all(source)
    assert (await finish_one(source, job, completed())).verdict is Verdict.COMPLETED


async def test_an_unknown_queue_is_refused_with_the_command_that_helps(world: World) -> None:
    source = QueueSource(queue=mail, worker_id=uuid4(), links=world.links(), has_watched=lambda: False)
    with pytest.raises(UnknownQueueError, match=r"pgmq\.create"):
        await source.prepare()


async def test_a_queue_says_what_it_serves_and_knows_no_runs(world: World) -> None:
    source = await world.queue_source(mail)
    assert (source.kind, source.slug, source.queue_name) == (SourceKind.QUEUE, "mail", "mail")
    with pytest.raises(UnknownRunError):
        await source.flow_input(UUID(int=0))


async def test_next_due_is_the_earliest_lease_or_backoff(world: World) -> None:
    source = await world.queue_source(mail)
    assert await source.next_due() is None
    await world.send("mail", 1)
    (job,) = await claim_all(source)
    assert await source.next_due() == pytest.approx(LEASE, abs=1)
    await finish_one(source, job, failed(retry_after=3))
    assert await source.next_due() == pytest.approx(3, abs=1)


async def test_recovery_of_a_queue_marks_the_dead_and_leaves_the_jobs_to_their_leases(world: World) -> None:
    source = await world.queue_source(mail)
    dead_id = uuid4()
    await world.register(dead_id, slug="mail", kind=SourceKind.QUEUE)
    peer = await world.peer(dead_id)
    assert list((await source.recover([peer])).lost) == [dead_id]
    assert list((await source.recover([peer])).lost) == []
    assert (await source.recover([])).released == 0


async def test_jobs_are_each_claimed_once_by_many_workers_side_by_side(world: World) -> None:
    sources = [await world.queue_source(mail) for _ in range(3)]
    sent = {await world.send("mail", n) for n in range(60)}
    seen: list[int] = []

    async def work(source: QueueSource) -> None:
        while tasks := await claim_all(source, limit=5):
            seen.extend(task.msg_id for task in tasks)
            finish = await source.finish([TaskResult(task=task, outcome=completed()) for task in tasks])
            assert {receipt.verdict for receipt in finish.receipts} == {Verdict.COMPLETED}

    await asyncio.gather(*(work(source) for source in sources))
    assert (len(seen), set(seen)) == (60, sent)


@pytest.fixture
async def queues_only(empty_database: Database) -> Database:
    """A database with pgmq's objects in the shape of 1.5, and nothing else of upstream's."""
    owner = await empty_database.connect()
    await make_pgmq_1_5(owner)
    await owner.close()
    return empty_database


async def make_pgmq_1_5(owner: Connection) -> None:
    await owner.execute(
        """
        CREATE SCHEMA pgmq;
        CREATE TABLE pgmq.meta (queue_name text);
        INSERT INTO pgmq.meta VALUES ('mail');
        CREATE TABLE pgmq.q_mail (
            msg_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, read_ct integer NOT NULL DEFAULT 0,
            enqueued_at timestamptz NOT NULL DEFAULT now(), vt timestamptz NOT NULL DEFAULT now(),
            message jsonb, headers jsonb
        );
        CREATE TABLE pgmq.a_mail (
            msg_id bigint PRIMARY KEY, read_ct integer NOT NULL, enqueued_at timestamptz NOT NULL,
            archived_at timestamptz NOT NULL DEFAULT now(), vt timestamptz NOT NULL, message jsonb, headers jsonb
        );
        CREATE TYPE pgmq.message_record AS (
            msg_id bigint, read_ct integer, enqueued_at timestamptz, vt timestamptz, message jsonb, headers jsonb
        );
        CREATE FUNCTION pgmq.read(queue_name text, vt integer, qty integer) RETURNS SETOF pgmq.message_record
        LANGUAGE sql AS $$
            UPDATE pgmq.q_mail SET read_ct = read_ct + 1, vt = clock_timestamp() + make_interval(secs => $2)
            WHERE msg_id IN (SELECT msg_id FROM pgmq.q_mail WHERE vt <= clock_timestamp() ORDER BY msg_id LIMIT $3
                             FOR UPDATE SKIP LOCKED)
            RETURNING msg_id, read_ct, enqueued_at, vt, message, headers
        $$;
        INSERT INTO pgmq.q_mail (message) VALUES ('1');
        """
    )


async def install_flowworker(connection: Connection, worker_id: UUID) -> None:
    await connection.execute(load("install/flowworker"))
    await register(connection, [report(worker_id, kind=SourceKind.QUEUE, slug="mail")])


UPGRADE = """
    ALTER TYPE pgmq.message_record ADD ATTRIBUTE last_read_at timestamptz;
    ALTER TABLE pgmq.q_mail ADD COLUMN last_read_at timestamptz;
    ALTER TABLE pgmq.a_mail ADD COLUMN last_read_at timestamptz;
    INSERT INTO pgmq.q_mail (message) VALUES ('2');
"""
LAST_READ = "SELECT array_agg(last_read_at <= clock_timestamp() ORDER BY msg_id) FROM pgmq.a_mail"


async def test_an_old_pgmq_without_pgflow_and_without_last_read_at_is_enough_and_may_be_upgraded(
    queues_only: Database,
) -> None:
    link = Link(queues_only.dsn, application_name="queues_only")
    worker_id = uuid4()
    await link.run(lambda connection: install_flowworker(connection, worker_id))
    source = QueueSource(
        queue=mail,
        worker_id=worker_id,
        links=Links(claim=link, finish=link, aside=link, beat=link, pulse=link),
        has_watched=lambda: False,
    )
    await source.prepare()
    (job,) = await claim_all(source)
    assert await prolong(source, [job]) == set()
    assert (await finish_one(source, job, completed())).verdict is Verdict.COMPLETED
    await link.run(lambda connection: connection.execute(UPGRADE))
    await link.close()  # what follows begins on a new connection, as after a restart of the database
    (job,) = await claim_all(source)
    assert (await finish_one(source, job, completed())).verdict is Verdict.COMPLETED
    assert await link.run(lambda connection: connection.fetchval(LAST_READ)) == [None, True]
    await link.close()
