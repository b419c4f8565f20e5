"""pgflow's own compilation accepts flows that we compiled, and we accept those that it compiled.

`ensure_flow_compiled` is what pgflow's TypeScript and Elixir workers call when they start; ours never does.
"""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from tests.conftest import TESTED_CORES, Database

from flowworker.database.capabilities import Capabilities, detect
from flowworker.database.compile import Compilation, Compiled, ensure_compiled
from flowworker.database.connection import Connection
from flowworker.definition.flow import Flow
from flowworker.definition.shape import as_json, shape_of
from flowworker.errors import ShapeMismatchError
from flowworker.worker_options import CompileMode

pytestmark = pytest.mark.parametrize(
    "catalogue", [core for core in TESTED_CORES if core not in {"0.8", "0.9"}], indirect=True
)

NO_PATTERN = {"defined": False}


def their_step(slug: str, *dependencies: str, kind: str = "single", **more: Any) -> dict[str, Any]:
    """A step as pgflow's TypeScript DSL describes it."""
    conditions = {
        "whenUnmet": "skip",
        "whenExhausted": "fail",
        "requiredInputPattern": NO_PATTERN,
        "forbiddenInputPattern": NO_PATTERN,
    }
    return {"slug": slug, "stepType": kind, "dependencies": sorted(dependencies), **conditions, **more}


THEIRS: dict[str, Any] = {
    "steps": [
        their_step("pages", options={"maxAttempts": 5, "startDelay": 3}),
        their_step("words", "pages", kind="map", options={"timeout": 7}),
        their_step("links", "pages"),
        their_step("report", "words", "links"),
    ],
    "options": {"maxAttempts": 4, "timeout": 30},
}
"""The flow of `crawl`."""


def crawl(slug: str = "crawl") -> Flow:
    flow = Flow(slug, max_attempts=4, timeout=30)

    @flow.step(max_attempts=5, start_delay=3)
    async def pages(site: str) -> list[str]:
        return [site]

    @flow.map(over=pages, timeout=7)
    async def words(page: str) -> int:
        return len(page)

    @flow.step
    async def links(pages: list[str]) -> int:
        return len(pages)

    @flow.step
    async def report(words: list[int], links: int) -> int:  # pyright: ignore[reportUnusedFunction]
        return sum(words) + links

    return flow


def picky(when: dict[str, Any]) -> Flow:
    flow = Flow("picky")

    @flow.step(when=when, unless={"draft": True}, when_unmet="skip_cascade", when_exhausted="skip")
    async def only(value: dict[str, Any]) -> int:  # pyright: ignore[reportUnusedFunction]
        return len(value)

    return flow


THEIR_PICKY: dict[str, Any] = {
    "steps": [
        their_step(
            "only",
            whenUnmet="skip-cascade",
            whenExhausted="skip",
            requiredInputPattern={"defined": True, "value": {"kind": "a"}},
            forbiddenInputPattern={"defined": True, "value": {"draft": True}},
        )
    ]
}
"""The flow of `picky({"kind": "a"})`."""


class Both:
    """The owner's connection, and the two ways to compile."""

    def __init__(self, owner: Connection, features: Capabilities) -> None:
        self.owner = owner
        self.features = features

    async def by_us(self, flow: Flow, mode: CompileMode = CompileMode.AUTO) -> Compilation:
        return await ensure_compiled(self.owner, flow, self.features, mode=mode)

    async def by_pgflow(self, slug: str, shape: dict[str, Any]) -> tuple[str, list[str]]:
        """The status and the differences."""
        call = "SELECT pgflow.ensure_flow_compiled(flow_slug => $1, shape => $2)"
        result = orjson.loads(await self.owner.fetchval(call, slug, orjson.dumps(shape)))
        return result["status"], result["differences"]

    async def rows(self) -> list[tuple[Any, ...]]:
        rows = await self.owner.fetch(
            "SELECT s.ctid, s.xmin, f.ctid, f.xmin FROM pgflow.steps s JOIN pgflow.flows f USING (flow_slug) ORDER BY 1"
        )
        return [tuple(row) for row in rows]


@pytest.fixture
async def both(catalogue: Database) -> AsyncIterator[Both]:
    owner = await catalogue.connect()
    yield Both(owner, await detect(owner))
    await owner.close()


async def test_pgflow_verifies_a_flow_that_we_compiled(both: Both) -> None:
    await both.by_us(crawl())
    before = await both.rows()
    assert await both.by_pgflow("crawl", as_json(shape_of(crawl()))) == ("verified", [])
    assert await both.by_pgflow("crawl", THEIRS) == ("verified", [])
    assert await both.rows() == before


async def test_we_verify_a_flow_that_pgflow_compiled(both: Both) -> None:
    assert await both.by_pgflow("crawl", THEIRS) == ("compiled", [])
    compilation = await both.by_us(crawl(), CompileMode.VERIFY)
    assert (compilation.outcome, list(compilation.changes)) == (Compiled.VERIFIED, [])


async def test_pgflow_compiles_what_we_describe_as_we_do(both: Both) -> None:
    assert await both.by_pgflow("theirs", as_json(shape_of(crawl("theirs")))) == ("compiled", [])
    await both.by_us(crawl("ours"))
    steps = (
        "SELECT step_slug, step_type, step_index, deps_count, opt_max_attempts, opt_base_delay, opt_timeout, "
        "opt_start_delay FROM pgflow.steps WHERE flow_slug = $1 ORDER BY step_index"
    )
    flow = "SELECT opt_max_attempts, opt_base_delay, opt_timeout FROM pgflow.flows WHERE flow_slug = $1"
    deps = "SELECT dep_slug, step_slug FROM pgflow.deps WHERE flow_slug = $1 ORDER BY 1, 2"
    for query in (steps, flow, deps):
        assert await both.owner.fetch(query, "theirs") == await both.owner.fetch(query, "ours")


async def test_both_refuse_another_shape_and_change_nothing(both: Both) -> None:
    await both.by_us(crawl())
    before = await both.rows()
    swapped = {**THEIRS, "steps": [*THEIRS["steps"][:2], *THEIRS["steps"][:1:-1]]}
    for shape in ({**THEIRS, "steps": THEIRS["steps"][:3]}, swapped):
        status, differences = await both.by_pgflow("crawl", shape)
        assert (status, bool(differences)) == ("mismatch", True)
    assert await both.by_pgflow("other", {"steps": THEIRS["steps"][:3]}) == ("compiled", [])
    with pytest.raises(ShapeMismatchError):
        await both.by_us(crawl("other"))
    assert (await both.rows())[: len(before)] == before


async def test_options_are_no_difference_to_either(both: Both) -> None:
    await both.by_us(crawl())
    assert await both.by_pgflow("crawl", {"steps": THEIRS["steps"], "options": {"maxAttempts": 9}}) == ("verified", [])
    await both.by_pgflow("other", {"steps": THEIRS["steps"], "options": {"maxAttempts": 9}})
    compilation = await both.by_us(crawl("other"), CompileMode.VERIFY)
    assert [change.option for change in compilation.changes] == ["max_attempts", "timeout"]


async def test_conditions_are_the_same_to_both(both: Both) -> None:
    if not both.features.skipping:
        pytest.skip("no core before 0.14 knows conditions")
    assert await both.by_pgflow("picky", THEIR_PICKY) == ("compiled", [])
    assert (await both.by_us(picky({"kind": "a"}), CompileMode.VERIFY)).outcome is Compiled.VERIFIED
    assert await both.by_pgflow("picky", as_json(shape_of(picky({"kind": "a"})))) == ("verified", [])
    status, differences = await both.by_pgflow("picky", as_json(shape_of(picky({"kind": "b"}))))
    assert (status, len(differences)) == ("mismatch", 1)
    with pytest.raises(ShapeMismatchError):
        await both.by_us(picky({"kind": "b"}))


async def test_a_flow_that_we_compiled_has_the_routes_that_pgflow_derives(both: Both) -> None:
    if not both.features.queue_mode:
        pytest.skip("no core before 0.17 knows routes")
    await both.by_us(crawl("Crawl"))
    routes = [{"stepSlug": step["slug"], "queueName": "crawl"} for step in THEIRS["steps"]]
    call = "SELECT pgflow.ensure_flow_compiled('Crawl', $1, 'flow', $2)"
    result = orjson.loads(await both.owner.fetchval(call, orjson.dumps(THEIRS), orjson.dumps(routes)))
    assert (result["status"], result["differences"], result["mismatchKind"]) == ("verified", [], None)
