"""The harness notices workers that are broken on purpose: a check that nothing can fail would prove nothing."""

import signal

from testkit.support.checker import Rule
from testkit.support.processes import WorkerProcess
from testkit.support.together import together
from testkit.support.waiting import hold_for, until
from tests.chaos.arena import Arena
from tests.chaos.ground import Ground
from tests.chaos.sabotage import VARIABLE
from tests.chaos.workloads import Plan, single

RERUN_WITHIN = 20.0


@together
async def test_acknowledging_before_the_work_is_noticed(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        await _one_run(ground, "acknowledges_before_work")
        await ground.drained()
        await _noticed(ground, Rule.WORK_FIRST)


@together
async def test_changing_an_output_is_noticed(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        saboteur = await _one_run(ground, "changes_outputs")
        await ground.drained()
        saboteur.send_signal(signal.SIGTERM)
        await saboteur.ended()
        await _noticed(ground, Rule.SINGLE_COMPLETION)


@together
async def test_running_twice_is_noticed(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        await _one_run(ground, "runs_twice")
        await ground.drained()
        await _noticed(ground, Rule.UNEXPLAINED_DUPLICATE)


@together
async def test_forgetting_results_is_noticed(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        saboteur = await _one_run(ground, "forgets_results")
        await until(lambda: ground.executions()[0].ended, "the handler ends")
        saboteur.kill()
        await saboteur.ended()
        await _noticed(ground, Rule.LOST)


@together
async def test_declaring_the_living_dead_is_noticed(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        honest, saboteur = ground.worker("honest", "single"), _saboteur(ground, "declares_the_living_dead")
        await honest.start()
        await ground.start_run(single, Plan(gate="open"))
        await ground.began(worker="honest")
        await saboteur.start()
        await ground.began(2)  # on whichever of the two claims it first
        ground.open_gate("open")
        await ground.drained()
        await _noticed(ground, Rule.UNEXPLAINED_DUPLICATE)
        await _noticed(ground, Rule.FALSE_DEATH)


@together
async def test_charging_an_attempt_for_a_loss_is_noticed(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        victim, saboteur = ground.worker("victim", "single"), _saboteur(ground, "charges_losses")
        await _lose_a_worker(ground, victim, saboteur)
        await ground.began(worker="saboteur")
        ground.open_gate("open")
        await ground.drained()
        await _noticed(ground, Rule.CHARGED)


@together
async def test_never_recovering_is_noticed(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        victim, saboteur = ground.worker("victim", "single"), _saboteur(ground, "never_recovers")
        await _lose_a_worker(ground, victim, saboteur)
        await hold_for(RERUN_WITHIN)
        await _noticed(ground, Rule.BOUND)


@together
async def test_ignoring_the_attempt_is_noticed(arena: Arena) -> None:
    async with arena.ground(single) as ground:
        heir, saboteur = ground.worker("heir", "single"), _saboteur(ground, "ignores_the_attempt")
        await saboteur.start()
        await ground.start_run(single, Plan(gate="open"))
        await ground.began(worker="saboteur")
        await heir.start()
        ground.fault("freeze", saboteur, began=saboteur.freeze())
        await ground.began(worker="heir")
        ground.open_gate("open", "saboteur")
        saboteur.thaw()
        await ground.drained()
        await _noticed(ground, Rule.FENCE)


def _saboteur(ground: Ground, sabotage: str) -> WorkerProcess:
    saboteur = ground.worker("saboteur", "single", launcher="tests.chaos.sabotage")
    saboteur.environment[VARIABLE] = sabotage
    return saboteur


async def _one_run(ground: Ground, sabotage: str) -> WorkerProcess:
    """A saboteur that has begun a run."""
    saboteur = _saboteur(ground, sabotage)
    await saboteur.start()
    await ground.start_run(single, Plan())
    await ground.began()
    return saboteur


async def _lose_a_worker(ground: Ground, victim: WorkerProcess, witness: WorkerProcess) -> None:
    """A worker is killed with a task that waits at the gate, and the other one sees it."""
    await victim.start()
    await ground.start_run(single, Plan(gate="open"))
    await ground.began(worker="victim")
    await witness.start()
    ground.fault("kill", victim, began=victim.kill(), rerun_within=RERUN_WITHIN)


async def _noticed(ground: Ground, rule: Rule) -> None:
    violations = await ground.verdict()
    assert rule in {violation.rule for violation in violations}, [str(violation) for violation in violations]
