"""One task per element of a list, then one step over all results: `python -m examples.fan_out`."""

from pydantic import BaseModel

from examples.local import run_and_print
from flowworker import Flow, TaskContext


class Library(BaseModel):
    """What a run starts with."""

    texts: list[str]


word_count = Flow("word_count", max_attempts=3, base_delay=1, timeout=30)


@word_count.step
async def texts(library: Library) -> list[str]:
    """The list that the map runs over."""
    return library.texts


@word_count.map(over=texts)
async def words(text: str, ctx: TaskContext) -> int:
    """Runs once per text, as many at once as the workers have slots."""
    ctx.logger.info("counting text %s", ctx.task_index)
    return len(text.split())


@word_count.step
async def total(words: list[int]) -> int:
    """Runs when the last of them is done; the outputs are in the order of the list."""
    return sum(words)


if __name__ == "__main__":
    run_and_print(word_count, Library(texts=["to be or not to be", "that is the question"]))
