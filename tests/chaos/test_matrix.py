"""The fault matrix: what befalls one connection of one worker is felt nowhere else, and is over when it heals."""

import os
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import pytest
from testkit.support.together import Company, Scenario, side_by_side
from tests.chaos.arena import Arena, new_arena
from tests.chaos.cell_run import run_cell
from tests.chaos.cells import ALL, Cell, sample
from tests.chaos.matrix import AT_ONCE

SECONDS = float(os.environ.get("FLOWWORKER_TEST_MATRIX_SECONDS", "12"))
"""For which each fault lasts; longer than it takes to declare a worker lost."""

CELLS = os.environ.get("FLOWWORKER_TEST_MATRIX_CELLS", "sample")
"""`all` or `sample`."""

TIMEOUT = 1200
"""Seconds for the first of the cells that is waited for: all are under way, most of them wait for their turn."""

Runs: TypeAlias = Mapping[Cell, Scenario[Arena]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each cell; the seed that chooses them is that of the whole test run, which pytest prints."""
    cells = ALL if CELLS == "all" else sample(_seed(metafunc.config))
    metafunc.parametrize("cell", cells, ids=[str(cell).replace(" ", "-") for cell in cells])


@pytest.fixture(scope="module")
def own_arena() -> Iterator[Arena]:
    with new_arena() as arena:
        yield arena


@pytest.fixture(scope="module")
def cells(request: pytest.FixtureRequest, own_arena: Arena) -> Iterator[tuple[Runs, Company[Arena]]]:
    """The chosen cells, under way."""
    items = (item for item in request.session.items if item.path == request.path)
    chosen = [item.callspec.params["cell"] for item in items if isinstance(item, pytest.Function)]
    runs = {cell: _scenario(cell, _seed(request.config)) for cell in ALL if cell in chosen}
    with side_by_side(list(runs.values()), own_arena, at_once=AT_ONCE) as company:
        yield runs, company


@pytest.mark.timeout(TIMEOUT)
def test_a_fault_of_one_connection_stays_there_and_ends_with_it(cell: Cell, cells: tuple[Runs, Company[Arena]]) -> None:
    runs, company = cells
    company.await_end(runs[cell])


def _scenario(cell: Cell, seed: int) -> Scenario[Arena]:
    async def scenario(arena: Arena) -> None:
        result = await run_cell(arena, cell, seconds=SECONDS, seed=seed)
        assert not result.violations, f"seed {seed}\n{result}"

    return scenario


def _seed(config: pytest.Config) -> int:
    """That of the whole run, which pytest prints: `--randomly-seed` brings the same cells again."""
    return int(str(config.getoption("randomly_seed")))
