"""Flows that the sources' tests run; their handlers are never called."""

from flowworker.definition.flow import Flow

one_step = Flow("one_step", max_attempts=3, base_delay=0, timeout=30)


@one_step.step
async def only(value: object) -> object:
    return value


fan = Flow("fan", max_attempts=2, base_delay=0, timeout=30)


@fan.step
async def spread(value: object) -> list[int]:
    return []


@fan.map(over=spread)
async def each(element: int) -> int:
    return element


@fan.step
async def join(each: list[int], spread: list[int]) -> int:
    return 0


chain_of_maps = Flow("chain_of_maps", max_attempts=2, base_delay=0, timeout=30)


@chain_of_maps.step
async def make(value: object) -> list[object]:
    return []


@chain_of_maps.map(over=make)
async def first(element: object) -> object:
    return element


@chain_of_maps.map(over=first)
async def second(element: object) -> object:
    return element


@chain_of_maps.step
async def collect(second: list[object], make: list[object]) -> int:
    return 0


two_maps = Flow("two_maps", max_attempts=2, base_delay=0, timeout=30)


@two_maps.map
async def over_input(element: object) -> object:
    return element


@two_maps.step
async def array(value: object) -> list[object]:
    return []


@two_maps.map(over=array)
async def over_array(element: object) -> object:
    return element


wide = Flow("wide", max_attempts=1, base_delay=0, timeout=30)


@wide.step
async def left(value: object) -> int:
    return 0


@wide.step
async def middle(value: object) -> int:
    return 0


@wide.step
async def right(value: object) -> int:
    return 0


root_map = Flow("root_map", max_attempts=2, base_delay=0, timeout=30)


@root_map.map
async def element(value: object) -> object:
    return value
