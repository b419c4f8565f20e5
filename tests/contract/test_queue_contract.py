"""What every source of a queue promises."""

from uuid import uuid4

import pytest
from tests.contract.backends import Backend
from tests.integration.sources.world import RELEASED, claim_all, completed, failed, finish_one, for_each_outcome

from flowworker.database.queue_jobs import HOLDER_PATIENCE
from flowworker.database.records import Completed, SourceKind, TaskResult, Verdict
from flowworker.definition.queue import Queue
from flowworker.errors import UnknownRunError

mail = Queue("mail", max_attempts=3, base_delay=2, timeout=20)


async def test_a_source_says_what_it_serves(backend: Backend) -> None:
    await backend.add(mail)
    source = await backend.source(mail)
    assert (source.kind, source.slug, source.queue_name) == (SourceKind.QUEUE, "mail", "mail")
    with pytest.raises(UnknownRunError):
        await source.flow_input(uuid4())


async def test_a_job_is_claimed_run_and_archived_with_its_result(backend: Backend) -> None:
    await backend.add(mail)
    worker_id = uuid4()
    source = await backend.source(mail, worker_id)
    msg_id = await backend.send("mail", {"to": "ann"})
    (job,) = await claim_all(source)
    assert (job.msg_id, job.run_id, job.step_slug, job.attempt, job.max_attempts) == (msg_id, None, "mail", 1, 3)
    assert (await finish_one(source, job, completed(False))).verdict is Verdict.COMPLETED
    assert await backend.job("mail", msg_id) == {
        "flowworker": {
            "status": "done", "result": False, "attempt": 1, "duration_ms": 10.0, "worker_id": str(worker_id),
        }
    }  # fmt: skip
    assert await claim_all(source) == []
    assert await source.next_due() is None


async def test_jobs_come_in_order_and_to_one_worker_each(backend: Backend) -> None:
    await backend.add(mail)
    source, other = await backend.source(mail), await backend.source(mail)
    sent = [await backend.send("mail", n) for n in range(4)]
    claimed = [job.msg_id for which in (source, other) for job in await claim_all(which, limit=2)]
    assert claimed == sent


async def test_failed_attempts_back_off_and_the_last_one_ends_the_job(backend: Backend) -> None:
    await backend.add(mail)
    source = await backend.source(mail)
    msg_id = await backend.send("mail", 1)
    for attempt, delay in ((1, 4), (2, 8)):
        (job,) = await claim_all(source)
        assert (job.attempt, job.losses) == (attempt, 0)
        receipt = await finish_one(source, job, failed(f"no {attempt}"))
        assert (receipt.verdict, receipt.retry_in) == (Verdict.RETRYING, delay)
        assert await source.next_due() == pytest.approx(delay, abs=2)
        await backend.pass_time("mail", delay)
    (job,) = await claim_all(source)
    assert (await finish_one(source, job, failed("no 3"))).verdict is Verdict.FAILED
    ours = (await backend.job("mail", msg_id))["flowworker"]
    assert (ours["status"], ours["error"], ours["stacktrace"], ours["attempt"]) == (
        "failed", "no 3", "Traceback …", 3,
    )  # fmt: skip


async def test_a_handler_chooses_the_delay_or_the_end(backend: Backend) -> None:
    await backend.add(mail)
    source = await backend.source(mail)
    await backend.send("mail", 1)
    (job,) = await claim_all(source)
    assert (await finish_one(source, job, failed(retry_after=100))).retry_in == 100
    await backend.pass_time("mail", 100)
    (job,) = await claim_all(source)
    assert (await finish_one(source, job, failed(final=True))).verdict is Verdict.FAILED


async def test_released_jobs_are_neither_charged_nor_lost(backend: Backend) -> None:
    await backend.add(mail)
    source = await backend.source(mail)
    await backend.send("mail", 1)
    for _ in range(6):
        (job,) = await claim_all(source)
        assert (job.attempt, job.losses) == (1, 0)
        assert (await finish_one(source, job, RELEASED)).verdict is Verdict.RELEASED


async def test_a_lease_that_runs_out_gives_the_job_to_another(backend: Backend) -> None:
    await backend.add(mail)
    source, other = await backend.source(mail), await backend.source(mail)
    await backend.send("mail", 1)
    (stale,) = await claim_all(source)
    await backend.pass_time("mail", 16)
    assert await claim_all(other) == []  # its holder may only have been cut off for a while
    await backend.pass_time("mail", HOLDER_PATIENCE)
    (current,) = await claim_all(other)
    assert (current.attempt, current.losses) == (1, 0)
    assert await backend.prolong(source, [stale]) == {stale.msg_id}
    for outcome in (completed(), failed(), RELEASED):
        assert (await finish_one(source, stale, outcome)).verdict is Verdict.SUPERSEDED
    assert (await finish_one(other, current, completed())).verdict is Verdict.COMPLETED


async def test_a_lease_that_is_prolonged_keeps_the_job(backend: Backend) -> None:
    await backend.add(mail)
    source, other = await backend.source(mail), await backend.source(mail)
    await backend.send("mail", 1)
    (job,) = await claim_all(source)
    for _ in range(3):
        await backend.pass_time("mail", 10)
        assert await backend.prolong(source, [job]) == set()
        assert await claim_all(other) == []
    assert (await finish_one(source, job, completed())).verdict is Verdict.COMPLETED


async def test_a_job_that_keeps_killing_workers_is_failed(backend: Backend) -> None:
    await backend.add(mail)
    source = await backend.source(mail)
    msg_id = await backend.send("mail", 1)
    for losses in range(4):
        victim_id = uuid4()
        (job,) = await claim_all(await backend.source(mail, victim_id))
        assert job.losses == losses
        await source.recover([await backend.peer(victim_id)])
        await backend.pass_time("mail", 16)
    claim = await source.claim(1, ())
    assert (list(claim.tasks), claim.unstartable) == ([], 1)
    assert (await backend.job("mail", msg_id))["flowworker"]["status"] == "failed"


async def test_a_worker_that_died_before_its_handlers_began_is_no_loss(backend: Backend) -> None:
    await backend.add(mail)
    source, victim_id = await backend.source(mail), uuid4()
    await backend.send("mail", 1)
    assert (await (await backend.source(mail, victim_id)).claim(1, ())).tasks
    await source.recover([await backend.peer(victim_id)])
    await backend.pass_time("mail", 16)
    (job,) = await claim_all(source)
    assert job.losses == 0


async def test_a_worker_marked_lost_claims_nothing(backend: Backend) -> None:
    await backend.add(mail)
    source, victim_id = await backend.source(mail), uuid4()
    victim = await backend.source(mail, victim_id)
    await backend.send("mail", 1)
    await source.recover([await backend.peer(victim_id)])
    claim = await victim.claim(1, ())
    assert (claim.fenced, list(claim.tasks)) == (True, [])
    assert len(await claim_all(source)) == 1


@for_each_outcome
async def test_repeating_a_write_whose_reply_was_lost_changes_nothing(
    backend: Backend, outcome: Completed, verdict: Verdict
) -> None:
    await backend.add(mail)
    source = await backend.source(mail)
    msg_id = await backend.send("mail", 1)
    (job,) = await claim_all(source)
    results = [TaskResult(task=job, outcome=outcome)]
    first = await source.finish(results)
    before = await backend.job("mail", msg_id)
    again = await source.finish(results)
    assert [first.receipts[0].verdict, again.receipts[0].verdict] == [verdict, verdict]
    assert await backend.job("mail", msg_id) == before


async def test_a_dead_peer_is_marked_once(backend: Backend) -> None:
    await backend.add(mail)
    dead_id = uuid4()
    source, _ = await backend.source(mail), await backend.source(mail, dead_id)
    peer = await backend.peer(dead_id)
    assert list((await source.recover([peer])).lost) == [dead_id]
    assert list((await source.recover([peer])).lost) == []
