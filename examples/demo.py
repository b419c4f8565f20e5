"""`make demo`: PostgreSQL, installation, workers, 100 runs of a map flow and 100 jobs, a table, and nothing left over.

Exits with 0 only if every run and every job completed.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from examples.demo_flows import Mail, Site, mail, site_report
from examples.demo_view import Row, Tally, live_view, table
from examples.local import try_database
from flowworker import Client, EventStream, WorkerPool
from flowworker.database.jobs_admin import Job, JobState
from flowworker.database.records import RunStatus, SourceKind
from flowworker.database.runs import RunSummary

PAGES = 5
"""Elements of each run's map."""
DEADLINE = 55.0
"""Seconds until the demo gives up, by default."""


def main() -> int:
    """Run the demo; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--deadline", type=float, default=DEADLINE, help="seconds")
    options = parser.parse_args()
    return asyncio.run(_demo(options.runs, options.jobs, options.deadline))


async def _demo(runs: int, jobs: int, deadline: float) -> int:
    began = time.monotonic()
    print("starting PostgreSQL and installing pgmq and pgflow ...", flush=True)
    async with try_database() as dsn, Client(dsn) as client:
        print(f"ready after {time.monotonic() - began:.1f} s; running flow site_report and queue mail", flush=True)
        tally = Tally()
        events = EventStream()
        events.subscribe(tally)
        began = time.monotonic()
        pool = WorkerPool(
            [site_report, mail], dsn=dsn, max_concurrency=20, batch_size=20, signal_strategy="notify", events=events
        )
        async with pool:
            await asyncio.gather(
                _start_runs(client, runs), _send_jobs(client, jobs), _show(tally, runs, jobs, deadline)
            )
        rows = _rows(tally, await client.runs(flow=site_report, limit=runs), await client.jobs(mail, limit=jobs))
    print(f"\n{table(rows)}\n\nall of it in {time.monotonic() - began:.1f} s", flush=True)
    return 0 if (rows[0].completed, rows[2].completed) == (runs, jobs) else 1


async def _start_runs(client: Client, runs: int) -> None:
    for run in range(runs):
        urls = [f"https://example.org/{run * PAGES + page}" for page in range(PAGES)]
        await client.start(site_report, Site(urls=urls))


async def _send_jobs(client: Client, jobs: int) -> None:
    for job in range(jobs):
        await client.send(mail, Mail(address=f"user{job:04}@example.org"))


async def _show(tally: Tally, runs: int, jobs: int, deadline: float) -> None:
    """Return when everything is done, or when the demo has taken too long."""
    began = time.monotonic()
    with live_view({"runs": runs, "tasks": runs * (PAGES + 2), "jobs": jobs}) as view:
        while (tally.runs, tally.jobs) != (runs, jobs) and time.monotonic() - began < deadline:
            view.update(tally, time.monotonic() - began)
            await asyncio.sleep(0.1)
        view.update(tally, time.monotonic() - began)


def _rows(tally: Tally, runs: Sequence[RunSummary], jobs: Sequence[Job]) -> list[Row]:
    """The database's word for runs and jobs, the workers' for single tasks."""
    done = [job for job in jobs if job.state is JobState.DONE]
    return [
        Row(
            name="runs",
            completed=sum(run.status is RunStatus.COMPLETED for run in runs),
            failed=sum(run.status is RunStatus.FAILED for run in runs),
            retries=None,
            durations=[(run.completed_at - run.started_at).total_seconds() for run in runs if run.completed_at],
        ),
        Row(
            name="tasks",
            completed=tally.tasks,
            failed=tally.failed[SourceKind.FLOW],
            retries=tally.retries[SourceKind.FLOW],
            durations=tally.durations[SourceKind.FLOW],
        ),
        Row(
            name="jobs",
            completed=len(done),
            failed=sum(job.state is JobState.FAILED for job in jobs),
            retries=tally.retries[SourceKind.QUEUE],
            durations=[job.duration for job in done if job.duration is not None],
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
