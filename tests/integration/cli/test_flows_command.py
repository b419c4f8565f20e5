from tests.integration.cli.calling import Cli

from flowworker.database.connection import Connection


async def test_compile_creates_what_is_missing_and_verifies_the_rest(owner_cli: Cli, owner: Connection) -> None:
    first = await owner_cli("flows", "compile", "shop_flows:everything")
    assert (first.code, first.err) == (0, "")
    assert [line.split() for line in first.out.splitlines()[1:]] == [
        ["flow", "shop", "created", "same", "no", "trigger"],
        ["queue", "mail", "created", "-", "no", "trigger"],
    ]
    again = await owner_cli("flows", "compile", "shop_flows:shop", "shop_flows:mail", "-o", "json")
    assert [outcome["outcome"] for outcome in again.json] == ["verified", "verified"]
    listed = (await owner_cli("flows", "list", "-o", "json")).json
    assert [(flow["flow_slug"], flow["steps"], flow["active_runs"]) for flow in listed] == [("shop", 2, 0)]


async def test_compile_with_notify_makes_inserts_wake_workers(owner_cli: Cli) -> None:
    compiled = await owner_cli("flows", "compile", "shop_flows:everything", "--notify", "-o", "json")
    assert [outcome["notify"] for outcome in compiled.json] == ["ready", "ready"]
    quiet = await owner_cli("flows", "compile", "shop_flows:everything", "--notify", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


async def test_compile_without_rights_names_what_to_run(cli: Cli) -> None:
    answer = await cli("flows", "compile", "shop_flows:shop")
    assert answer.code == 77
    assert "flowworker flows compile" in answer.err


async def test_diff_lists_the_differences(cli: Cli, owner: Connection, shop: str) -> None:
    same = await cli("flows", "diff", "shop_flows:shop")
    assert (same.code, same.out) == (0, "flow shop: same\n")
    await owner.execute("SELECT pgflow.add_step('shop', 'extra')")
    different = await cli("flows", "diff", "shop_flows:shop", "-o", "json")
    assert different.code == 65
    assert different.json == [{"flow": "shop", "differences": ["step 'extra' is only in the database"], "options": []}]


CONDITIONAL = """
from flowworker import Flow

shop = Flow("shop", max_attempts=1)


@shop.step
async def items(order: list[str]) -> list[str]:
    return order


@shop.map(over=items, when={"items": ["box"]}, when_exhausted="skip")
async def pack(item: str) -> str:
    return item.upper()
"""


async def test_a_flow_with_conditions_is_another_one_and_no_core_without_them_takes_it(
    owner_cli: Cli, owner: Connection, shop: str
) -> None:
    (owner_cli.folder / "conditional.py").write_text(CONDITIONAL)
    compared = await owner_cli("flows", "diff", "conditional:shop", "-o", "json")
    assert compared.code == 65
    assert compared.json[0]["differences"] == [
        'step \'pack\' has when={"items":["box"]} in the code, no when in the database',
        "step 'pack' has when_exhausted=skip in the code, when_exhausted=fail in the database",
    ]
    refused = await owner_cli("flows", "compile", "conditional:shop")
    assert refused.code == 65
    assert "flow 'shop': step 'pack' has conditions, which pgflow knows from core 0.14 on" in refused.err


async def test_diff_of_a_flow_that_is_not_there(cli: Cli) -> None:
    answer = await cli("flows", "diff", "shop_flows:shop")
    assert answer.code == 65
    assert "the database has no such flow" in answer.out


async def test_a_differing_flow_is_not_compiled(owner_cli: Cli, owner: Connection, shop: str) -> None:
    await owner.execute("SELECT pgflow.add_step('shop', 'extra')")
    answer = await owner_cli("flows", "compile", "shop_flows:shop")
    assert answer.code == 65
    assert "step 'extra' is only in the database" in answer.err
    assert "shop_v2" in answer.err


async def test_graph_draws_code_and_database_alike(cli: Cli, shop: str) -> None:
    tree = await cli("flows", "graph", "shop_flows:shop")
    assert tree.out == "shop\n└── items\n    └── pack [map]\n"
    assert (await cli("flows", "graph", "shop")).out == tree.out
    drawn = await cli("flows", "graph", "shop_flows:shop", "--format", "mermaid")
    assert drawn.out.startswith("flowchart TD\n")
    assert (await cli("flows", "graph", "shop", "-f", "mermaid")).out == drawn.out


async def test_a_flow_named_twice_is_refused(cli: Cli) -> None:
    answer = await cli("flows", "compile", "shop_flows:shop", "shop_flows:everything")
    assert answer.code == 64
    assert "flow 'shop' is named twice" in answer.err


CHANGED = ("timeout of the flow is 60 in the code, 7 in the database",
           "timeout of step 'items' is inherited in the code, 8 in the database")  # fmt: skip


async def test_changed_options_are_shown_and_change_no_exit_code(cli: Cli, owner: Connection, shop: str) -> None:
    await owner.execute("UPDATE pgflow.flows SET opt_timeout = 7; UPDATE pgflow.steps SET opt_timeout = 8 "
                        "WHERE step_slug = 'items'")  # fmt: skip
    shown = await cli("flows", "diff", "shop_flows:shop")
    assert shown.code == 0
    assert shown.out.startswith("flow shop: same shape, other options\n")
    assert all(f"  - {change}\n" in shown.out for change in CHANGED)
    assert "--update-options" in shown.out
    (comparison,) = (await cli("flows", "diff", "shop_flows:shop", "-o", "json")).json
    assert comparison["options"] == [
        {"step": None, "option": "timeout", "code": 60, "database": 7},
        {"step": "items", "option": "timeout", "code": None, "database": 8},
    ]
    findings = (await cli("doctor", "shop_flows:shop", "-o", "json")).json
    assert [finding["level"] for finding in findings if finding["check"] == "flows"] == ["warning"] * 2


async def test_compile_names_changed_options_and_writes_them_when_asked(
    owner_cli: Cli, owner: Connection, shop: str
) -> None:
    await owner.execute("UPDATE pgflow.flows SET opt_timeout = 7; UPDATE pgflow.steps SET opt_timeout = 8 "
                        "WHERE step_slug = 'items'")  # fmt: skip
    stored = "SELECT opt_timeout FROM pgflow.flows UNION ALL SELECT opt_timeout FROM pgflow.steps ORDER BY 1"
    named = await owner_cli("flows", "compile", "shop_flows:shop", "--quiet")
    assert (named.code, named.out) == (0, "")
    assert all(f"flow 'shop': {change}\n" in named.err for change in CHANGED)
    assert [row[0] for row in await owner.fetch(stored)] == [7, 8, None]
    written = await owner_cli("flows", "compile", "shop_flows:shop", "--update-options")
    assert written.code == 0
    assert written.out.splitlines()[1].split() == ["flow", "shop", "updated", "2", "updated", "no", "trigger"]
    assert all(f"flow 'shop': {change}, updated\n" in written.err for change in CHANGED)
    assert [row[0] for row in await owner.fetch(stored)] == [60, None, None]
    assert (await owner_cli("flows", "diff", "shop_flows:shop")).out == "flow shop: same\n"


async def test_changed_options_are_not_written_without_the_owner_s_rights(
    cli: Cli, owner: Connection, shop: str
) -> None:
    await owner.execute("UPDATE pgflow.flows SET opt_timeout = 7")
    answer = await cli("flows", "compile", "shop_flows:shop", "--update-options")
    assert answer.code == 77
    assert "owner's connection" in answer.err
