"""Work that needs a whole core runs in a child process: `python -m examples.cpu_bound`."""

from pydantic import BaseModel, Field

from examples.local import run_and_print
from flowworker import Flow


class Range(BaseModel):
    """What a run starts with."""

    start: int = Field(ge=0)
    stop: int


prime_flow = Flow("primes", max_attempts=2, base_delay=1, timeout=60)


@prime_flow.step
async def chunks(numbers: Range) -> list[Range]:
    """Cut the range so that several cores have something to do."""
    size = 10_000
    return [
        Range(start=start, stop=min(start + size, numbers.stop)) for start in range(numbers.start, numbers.stop, size)
    ]


@prime_flow.map(over=chunks, run_in="process")
def primes(chunk: Range) -> int:
    """A timeout kills the process, and no other task waits for this one's interpreter lock."""
    return sum(_is_prime(number) for number in range(chunk.start, chunk.stop))


@prime_flow.step
async def count(primes: list[int]) -> int:
    """How many there are in all."""
    return sum(primes)


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


if __name__ == "__main__":
    run_and_print(prime_flow, Range(start=0, stop=30_000))
