"""The fault matrix outside of continuous integration: every cell, again and again, until the time is over.

python -m tests.chaos.matrix --minutes 60 --seed 7
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from typing import cast

from tests.chaos.arena import Arena, new_arena
from tests.chaos.cell_run import Result, run_cell
from tests.chaos.cells import ALL, Cell

AT_ONCE = 6
"""Cells side by side: what two cores bear without slowing the workers' heartbeats."""


async def run_cells(arena: Arena, cells: Sequence[Cell], *, seconds: float, seed: int, at_once: int) -> list[Result]:
    """Run cells, at most so many at once; each is printed when it is done, a cell that cannot run is a violation."""
    places = asyncio.Semaphore(at_once)

    async def run(cell: Cell) -> Result:
        async with places:
            result = await _outcome(arena, cell, seconds=seconds, seed=seed)
        print(result, flush=True)
        return result

    return list(await asyncio.gather(*(run(cell) for cell in cells)))


async def _outcome(arena: Arena, cell: Cell, *, seconds: float, seed: int) -> Result:
    try:
        return await run_cell(arena, cell, seconds=seconds, seed=seed)
    except Exception as error:  # noqa: BLE001 - one cell must not hide the others
        return Result(
            cell=cell, units=0, repeats=0, deaths=0, prompt=0.0, neighbours=0.0, sessions={},
            resumed=float("inf"),
            violations=[f"the cell did not come to its end: {_said(error)}"],
        )  # fmt: skip


def _said(error: BaseException) -> str:
    """An error, without the groups around it."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return f"{type(error).__name__}: {error}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 when every cell was good every time."""
    options = _parser().parse_args(arguments)
    cells = [cell for cell in ALL if all(word in str(cell) for word in options.only)]
    deadline = time.monotonic() + options.minutes * 60
    bad: list[str] = []
    with new_arena() as arena:
        for round_number in range(1, 1_000_000):
            seed = options.seed + round_number - 1
            order = random.Random(seed).sample(cells, len(cells))
            print(f"round {round_number}, seed {seed}: {len(cells)} cells of {options.seconds:g} s", flush=True)
            results = asyncio.run(run_cells(arena, order, seconds=options.seconds, seed=seed, at_once=options.at_once))
            bad += [f"round {round_number}: {result.cell}" for result in results if result.violations]
            if time.monotonic() >= deadline:
                break
    print(f"{len(bad)} bad cells" + "".join(f"\n    {one}" for one in bad) if bad else "all good", flush=True)
    return 1 if bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.matrix", description="The fault matrix, until the time is over."
    )
    parser.add_argument("--minutes", type=float, default=60, help="begin no further round after this time")
    parser.add_argument("--seconds", type=float, default=60, help="how long each fault lasts")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of the first round")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="cells side by side")
    parser.add_argument("only", nargs="*", help="words that the cell's name must hold, as in `flow beat cut`")
    return parser


if __name__ == "__main__":
    sys.exit(main())
