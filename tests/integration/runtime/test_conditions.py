"""Flows with conditions end alike under a worker on a database and in the simulator."""

import inspect
import random
from collections import Counter
from typing import Any, cast
from uuid import UUID

import orjson
import pytest
from tests.conftest import Database
from tests.integration.runtime.conftest import World
from tests.integration.sources.world import a_world

from flowworker import Flow, TaskContext, WorkerPool
from flowworker.database.capabilities import detect
from flowworker.database.compile import ensure_compiled
from flowworker.database.connection import Connection
from flowworker.database.runs import read_run
from flowworker.definition.graph import tree
from flowworker.definition.shape import shape_of
from flowworker.testing import FlowResult, memory_json, run_flow_async
from flowworker.testing.engine import Engine, VirtualClock

FLOWS = 30
CONSEQUENCES = ["skip", "skip", "skip_cascade", "fail"]

STEPS = "SELECT step_slug, status, skip_reason, output FROM pgflow.step_states WHERE run_id = $1"
TASKS = "SELECT step_slug, task_index, attempts_count FROM pgflow.step_tasks WHERE run_id = $1 AND attempts_count > 0"

conditional_cores = pytest.mark.parametrize("catalogue", ["0.14", "0.15", "0.17"], indirect=True)


def some_json(chance: random.Random, depth: int = 0) -> Any:
    """A small value, of few kinds so that two of them are often alike."""
    if depth > 2 or chance.random() < 0.4:
        return chance.choice([None, True, False, 0, 1, 1.0, "", "a"])
    if chance.random() < 0.5:
        return [some_json(chance, depth + 1) for _ in range(chance.randrange(3))]
    return {key: some_json(chance, depth + 1) for key in chance.sample("ab", chance.randrange(3))}


def part_of(chance: random.Random, value: Any) -> Any:
    """Something that the value contains, or nearly."""
    if chance.random() < 0.1:
        return some_json(chance)
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        return {key: part_of(chance, items[key]) for key in items if chance.random() < 0.7}
    if isinstance(value, list):
        kept = [part_of(chance, item) for item in cast("list[Any]", value) if chance.random() < 0.7]
        return chance.sample(kept, len(kept))
    return value


@conditional_cores
async def test_containment_is_that_of_jsonb(catalogue: Database) -> None:
    chance = random.Random("containment")
    values = [some_json(chance) for _ in range(3000)]
    pairs = [({"v": value}, {"v": part_of(chance, value)}) for value in values]
    owner = await catalogue.connect()
    rows = await owner.fetch(
        "SELECT value @> pattern AS found FROM unnest($1::jsonb[], $2::jsonb[]) AS pair(value, pattern)",
        *([orjson.dumps(one) for one in side] for side in zip(*pairs, strict=True)),
    )
    await owner.close()
    ours = [memory_json.contains(value, pattern) for value, pattern in pairs]
    assert ours == [row["found"] for row in rows]
    assert 500 < sum(ours) < 2900


def some_conditions(chance: random.Random, seen: Any) -> dict[str, Any]:
    """Settings of a step that sees this."""
    found: dict[str, Any] = {}
    for name in ("when", "unless"):
        pattern = part_of(chance, seen)
        if chance.random() < 0.3 and isinstance(seen, dict) and isinstance(pattern, dict):
            found[name] = {key: part for key, part in cast("dict[str, Any]", pattern).items() if key in seen}
    found = {name: pattern for name, pattern in found.items() if pattern}
    if found:
        found["when_unmet"] = chance.choice(CONSEQUENCES)
    if chance.random() < 0.6:
        found["when_exhausted"] = chance.choice(CONSEQUENCES)
    return found


def is_list(value: Any) -> bool:
    return isinstance(value, list)


def handler(chance: random.Random, slug: str, output: Any, parameters: list[inspect.Parameter]) -> Any:
    """One that returns this output, with the inputs it has seen where it is no list, or fails once or always."""
    trouble = chance.choice([0, 0, 0, 1, 9])

    async def work(*values: Any) -> Any:
        seen: list[Any] = list(values[:-1])
        ctx: TaskContext = values[-1]
        if ctx.attempt <= trouble:
            raise ValueError(f"{slug} {ctx.attempt}")
        return {"a": output, "seen": seen} if seen and not is_list(output) else output

    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=TaskContext, default=None)
    work.__dict__["__signature__"] = inspect.Signature([*parameters, context])
    return work


def some_step(chance: random.Random, flow: Any, outputs: dict[str, Any], given: Any) -> None:
    """Add a step to a flow; `outputs` are what the steps before return, `given` is the run's input."""
    slug = f"step_{len(outputs)}"
    needed = chance.sample(list(outputs), min(len(outputs), chance.choice([0, 1, 1, 2])))
    is_map = chance.random() < 0.35 and (needed or isinstance(given, list))
    needed = needed[:1] if is_map else needed
    value = some_json(chance)
    output: Any = [value] * chance.randrange(3) if chance.random() < 0.5 else value
    settings = some_conditions(chance, {name: outputs[name] for name in needed} if needed else given)
    parameters = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Any, default=None)
        for name in (["element"] if is_map else needed)
    ]
    work = handler(chance, slug, output, parameters)
    if is_map:
        flow.map(over=flow.steps[needed[0]] if needed else None, slug=slug, **settings)(work)
    else:
        flow.step(slug=slug, **settings)(work)
    shown: Any = {"a": output} if needed and not is_list(output) else output
    outputs[slug] = [shown] if is_map else shown


def some_flow(chance: random.Random, slug: str) -> tuple[Flow, Any]:
    """A flow, and the input of a run."""
    flow = Flow(slug, max_attempts=chance.choice([1, 2]), base_delay=0, timeout=30)
    given: Any = [1, 2] if chance.random() < 0.2 else {"a": some_json(chance), "b": some_json(chance)}
    outputs: dict[str, Any] = {}
    for _ in range(chance.randint(2, 7)):
        some_step(chance, flow, outputs, given)
    return flow, given


def simulated(result: FlowResult) -> dict[str, Any]:
    """What is to be seen of a run in the simulator."""
    attempts = {(attempt.step, attempt.index): attempt.number for attempt in result.attempts}
    return {
        "run": (result.status, result.output, result.error),
        "completed": dict(result.steps),
        "skipped": dict(result.skipped),
        "attempts": attempts,
    }


async def stored(owner: Connection, run_id: UUID) -> dict[str, Any]:
    """The same of one in a database."""
    run = await read_run(owner, run_id)
    steps = await owner.fetch(STEPS, run_id)
    tasks = await owner.fetch(TASKS, run_id)
    return {
        "run": (run.status, run.output, run.error),
        "completed": {row["step_slug"]: _decoded(row["output"]) for row in steps if row["status"] == "completed"},
        "skipped": {row["step_slug"]: row["skip_reason"] for row in steps if row["status"] == "skipped"},
        "attempts": {(row["step_slug"], row["task_index"]): row["attempts_count"] for row in tasks},
    }


def _decoded(text: bytes | None) -> Any:
    return None if text is None else orjson.loads(text)


@conditional_cores
async def test_random_flows_end_alike_in_the_simulator_and_on_a_database(catalogue: Database) -> None:
    """One task at a time on both sides, so that of a run that fails, too, everything is equal."""
    chance, seen = random.Random("simulator"), Counter[str]()
    async with a_world(catalogue) as world:
        for number in range(FLOWS):
            flow, given = some_flow(chance, f"flow_{number}")
            await ensure_compiled(world.owner, flow, await detect(world.owner))
            run_id = await world.start(flow.slug, given)
            engine = Engine(flow, await world.source(flow), VirtualClock(), max_concurrency=1, timeout=None)
            await engine.run()
            await world.close()
            expected = simulated(await run_flow_async(flow, given, max_concurrency=1))
            assert await stored(world.owner, run_id) == expected, (tree(shape_of(flow)), given)
            seen.update([expected["run"][0], *expected["skipped"].values(), str(expected["run"][2])])
    assert min(seen["completed"], seen["failed"], seen["Condition not met"]) > 0
    assert min(seen["condition_unmet"], seen["handler_failed"], seen["dependency_skipped"]) > 0


@conditional_cores
async def test_random_flows_end_alike_in_the_simulator_and_under_workers(catalogue: Database) -> None:
    """Which of two steps ends first, and how far a run gets that fails, is left to chance here."""
    chance, owner = random.Random("workers"), await catalogue.connect()
    made = [some_flow(chance, f"flow_{number}") for number in range(FLOWS)]
    world = World(catalogue, owner)
    await world.create(*(flow for flow, _ in made))
    async with WorkerPool(
        [flow for flow, _ in made], dsn=catalogue.worker_dsn, min_poll_interval=0.05, max_poll_interval=0.1
    ):
        runs = [await world.start_run(flow, given) for flow, given in made]
        for (flow, given), run_id in zip(made, runs, strict=True):
            await world.ended(run_id)
            expected, found = simulated(await run_flow_async(flow, given)), await stored(owner, run_id)
            completed = expected["run"][0] == "completed"
            ends = ["run", "completed", "skipped"] if completed else []
            assert [found[end] for end in ends] == [expected[end] for end in ends], (tree(shape_of(flow)), given)
            assert found["run"][0] == expected["run"][0]
    await owner.close()
