"""Every scenario again, during which the operator is killed at a random moment: it must come to the same end."""

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import pytest
from e2e.scenarios import test_disruption, test_life, test_scaling
from e2e.support.stage import Stage
from testkit.support.kube import Kube
from testkit.support.together import ATTRIBUTE, Scenario, side_by_side

SEED_VARIABLE = "FLOWWORKER_E2E_SEED"
AT_ONCE = 3
FIRST, LAST = 1.0, 15.0
"""Seconds into a scenario, between which the kill comes."""


def scenarios_of(module: ModuleType) -> dict[str, Scenario[Stage]]:
    """The scenarios of a module by the name of their test."""
    return {name: getattr(test, ATTRIBUTE) for name, test in vars(module).items() if hasattr(test, ATTRIBUTE)}


SCENARIOS = scenarios_of(test_life) | scenarios_of(test_scaling) | scenarios_of(test_disruption)


class Killer:
    """Kills the operator once during every scenario; scenarios under way at the same time share a kill."""

    def __init__(self, seed: str) -> None:
        """Take what the moments depend on."""
        self._seed = seed
        self._killed_at = 0.0
        self._alone = asyncio.Lock()

    async def accompany(self, name: str, stage: Stage) -> None:
        """Run a scenario, with a kill at a moment that depends on nothing but seed and name."""
        moment = random.Random(f"{self._seed} {name}").uniform(FIRST, LAST)
        async with asyncio.TaskGroup() as both:
            both.create_task(SCENARIOS[name](stage.with_disturbance()))
            both.create_task(self._kill(stage, time.monotonic(), moment))

    async def _kill(self, stage: Stage, began: float, moment: float) -> None:
        await asyncio.sleep(moment)
        async with self._alone, Kube.connect(stage.kubeconfig) as kube:
            if self._killed_at < began:
                await stage.release.available(kube)
                await stage.release.kill(kube, stage.cluster)
                self._killed_at = time.monotonic()


@pytest.fixture(scope="module")
def disturbed(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Callable[[str], None]]:
    """Waits for the end of one of the chosen scenarios, which are under way with their killer."""
    seed = os.environ.get(SEED_VARIABLE) or str(time.time_ns())
    print(f"{SEED_VARIABLE}={seed}")
    killer = Killer(seed)
    chosen = [name for item in request.session.items if item.path == request.path and (name := parameter(item))]
    scenarios: dict[str, Scenario[Stage]] = {name: partial(killer.accompany, name) for name in chosen}
    with side_by_side(list(scenarios.values()), stage, at_once=AT_ONCE) as company:
        yield lambda name: company.await_end(scenarios[name])


def parameter(item: pytest.Item) -> str | None:
    """The scenario that a test was parametrized with."""
    specification: Any = getattr(item, "callspec", None)
    return None if specification is None else specification.params["name"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_it_comes_to_the_same_end_when_the_operator_is_killed(disturbed: Callable[[str], None], name: str) -> None:
    disturbed(name)
