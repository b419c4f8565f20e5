"""How long work waits where no worker runs: from the start of a run to the end of its first task, the image present."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import orjson
from e2e.support.flowworker import FlowWorker
from e2e.support.ground import Ground
from e2e.support.stage import Stage
from e2e.workloads.flows import Plan, single
from testkit.support.together import together

AT_ONCE = 1
TIMES = 5
MOST = 20.0
"""Seconds on a machine that may do much else. It must be 8 on one that does not, and should be 4."""

FIGURES = Path(__file__).resolve().parents[2] / "build" / "e2e" / "first_task.json"

PHASES = """
    SELECT
        extract(epoch FROM w.started_at - r.started_at)::float8 AS "worker is there",
        extract(epoch FROM t.started_at - r.started_at)::float8 AS "task begins",
        extract(epoch FROM t.completed_at - r.started_at)::float8 AS "task has ended"
    FROM pgflow.runs AS r
    JOIN pgflow.step_tasks AS t USING (run_id)
    JOIN flowworker.workers AS w ON w.worker_id = t.last_worker_id
    WHERE r.run_id = $1
"""
"""Seconds since the start of the run, by the database's clock."""


@together
async def test_a_task_at_zero_is_done_within_seconds(stage: Stage) -> None:
    figures = {strategy: await waits(stage, strategy) for strategy in ("Polling", "Notify")}
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    FIGURES.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    assert max(wait["task has ended"] for waits in figures.values() for wait in waits) <= MOST, figures
    middle = {strategy: median(wait["task has ended"] for wait in found) for strategy, found in figures.items()}
    assert middle["Notify"] < middle["Polling"] + 1.0, figures


async def waits(stage: Stage, strategy: str) -> Sequence[Mapping[str, float]]:
    """What becomes of some runs, each of which finds no worker."""
    async with Ground.prepare(stage, f"first-task-{strategy}", single, budget=300) as ground:
        if strategy == "Notify":
            await ground.database.fetch("SELECT pgmq.enable_notify_insert($1)", single.slug)
        worker = ground.flowworker(single, worker={"signalStrategy": strategy}, scaling={"maxReplicas": 1})
        await worker.apply()
        found = [await wait(ground, worker) for _ in range(TIMES)]
        await ground.conclude()
    return found


async def wait(ground: Ground, worker: FlowWorker) -> Mapping[str, float]:
    """Start a run where no worker runs, and see it done."""
    await worker.becomes("Ready", "True", "Idle")
    await worker.is_at(0)
    (run,) = await ground.start_runs(single, 1, Plan())
    await ground.finished(len(ground.runs))
    (phases,) = await ground.database.fetch(PHASES, run)
    return phases
