"""Finding flows and queues by MODULE:OBJECT."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from flowworker import DefinitionError, Flow, Queue
from flowworker.definition.loading import load
from flowworker.errors import ExitCode, HandlerImportError

SOURCES = {
    "shop_flows": """
        from flowworker import Flow, Queue

        orders = Flow("orders")
        mail = Queue("mail")
        everything = [orders, mail]
        some = (orders, 3)
        nothing = []
        number = 3

        class Group:
            flow = orders
        """,
    "shop_package/__init__": "",
    "shop_package/inner": """
        from flowworker import Flow

        inner = Flow("inner")
        """,
    "shop_empty": "",
    "shop_missing": "import shop_no_such_module",
    "shop_raises": """
        def fail():
            raise ValueError("no luck")

        fail()
        """,
    "shop_exits": "raise SystemExit(3)",
    "shop_syntax": "flow = (",
    "shop_wrong": """
        from flowworker import Flow

        flow = Flow("run")
        """,
    "shop_script": """
        from pathlib import Path
        from shop_flows import orders

        flow = orders
        """,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules; imported ones and changes to sys.path are forgotten afterwards."""
    for name, source in SOURCES.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(source))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("shop_")]:
        del sys.modules[name]


def slugs(workloads: list[Flow | Queue]) -> list[str]:
    return [workload.slug if isinstance(workload, Flow) else workload.name for workload in workloads]


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("shop_flows:orders", ["orders"]),
        ("shop_flows:mail", ["mail"]),
        ("shop_flows:everything", ["orders", "mail"]),
        ("shop_flows:Group.flow", ["orders"]),
        ("shop_package.inner:inner", ["inner"]),
        ("shop_flows.py:orders", ["orders"]),
        ("shop_script.py:flow", ["orders"]),
    ],
)
def test_a_flow_a_queue_or_a_list_of_them_is_found(folder: Path, reference: str, found: list[str]) -> None:
    assert slugs(load(reference, directory=folder)) == found


def test_a_file_is_found_by_its_whole_path(folder: Path) -> None:
    assert slugs(load(f"{folder}/shop_package/../shop_script.py:flow")) == ["orders"]


def test_modules_are_looked_for_in_the_current_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)

    assert slugs(load("shop_flows:orders")) == ["orders"]


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("shop_none:flow", "there is no module 'shop_none' (looked for 'shop_none' in "),
        ("shop_package.none:flow", "there is no module 'shop_package.none'"),
        ("shop_none.py:flow", "there is no file 'shop_none.py' in "),
        ("shop_missing:flow", "shop_missing.py:1: ModuleNotFoundError: No module named 'shop_no_such_module'"),
        ("shop_raises:flow", "shop_raises.py:3: ValueError: no luck"),
        ("shop_raises.py:flow", "shop_raises.py:3: ValueError: no luck"),
        ("shop_exits:flow", "shop_exits.py:1: SystemExit: 3"),
        ("shop_syntax:flow", "shop_syntax.py:1: SyntaxError: '(' was never closed"),
        ("shop_flows:order", "module 'shop_flows' has no 'order'; did you mean 'orders'?"),
        ("shop_flows:zzz", "module 'shop_flows' has no 'zzz'"),
        ("shop_flows:orders.zzz", "<flow 'orders' with 0 steps> has no 'zzz'"),
        ("shop_flows:number", "is 3, neither a Flow nor a Queue nor a list of them"),
        ("shop_flows:some", "neither a Flow nor a Queue nor a list of them"),
        ("shop_flows:nothing", "is [], neither a Flow nor a Queue"),
        ("shop_flows", "names no object; write one of: shop_flows:orders, shop_flows:mail"),
        ("shop_empty:", "names no object; write one of: nothing, 'shop_empty' has no flow and no queue"),
        (":flow", "names no module; write MODULE:OBJECT"),
        ("", "names no module"),
        ("..shop:flow", "'..shop' is no name of a module"),
    ],
)
def test_what_cannot_be_found_is_explained(folder: Path, reference: str, problem: str) -> None:
    with pytest.raises(HandlerImportError, match=re.escape(problem)) as caught:
        load(reference, directory=folder)

    assert caught.value.exit_code is ExitCode.HANDLER


def test_a_wrong_definition_keeps_its_own_error(folder: Path) -> None:
    with pytest.raises(DefinitionError, match=r"shop_wrong.py:4: flow 'run': the slug is a reserved word") as caught:
        load("shop_wrong:flow", directory=folder)

    assert not isinstance(caught.value, HandlerImportError)


def test_a_file_whose_name_is_taken_by_another_module_is_refused(folder: Path) -> None:
    (folder / "json.py").write_text("")

    with pytest.raises(HandlerImportError, match="a module named 'json' already is; rename the file"):
        load("json.py:flow", directory=folder)


def test_a_dot_in_place_of_the_colon_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "dotted_flows.py").write_text("site = 1\n")
    with pytest.raises(HandlerImportError, match="did you mean 'dotted_flows:site'"):
        load("dotted_flows.site:site", directory=tmp_path)


SHARED = """
    from flowworker import Flow, Queue

    first = {first}
    second = {second}
    both = [first, second]
"""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('Flow("x")', 'Queue("x")'),
        ('Queue("x")', 'Flow("X")'),
        ('Queue("x")', 'Queue("X")'),
        ('Flow("x")', 'Flow("X")'),
    ],
)
@pytest.mark.parametrize("wanted", ["first", "both"])
def test_a_flow_and_a_queue_that_share_their_messages_are_refused(
    folder: Path, first: str, second: str, wanted: str
) -> None:
    (folder / "shop_shared.py").write_text(dedent(SHARED.format(first=first, second=second)))
    with pytest.raises(DefinitionError, match=r"shop_shared.py:\d: .*would share the messages of .*shop_shared.py:\d"):
        load(f"shop_shared:{wanted}", directory=folder)
