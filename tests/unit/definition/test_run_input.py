"""The input of a run, checked where the run is started."""

import math

import pytest
from pydantic import BaseModel

from flowworker import Flow, InputError, OutputError


class Site(BaseModel):
    urls: list[str]
    depth: int = 3


def flow() -> Flow:
    made = Flow("sites")

    @made.step
    def visit(site: Site) -> None: ...

    return made


@pytest.mark.parametrize("value", [Site(urls=["a"], depth=1), {"urls": ["a"], "depth": 1}])
def test_input_is_a_model_or_what_reads_as_one(value: object) -> None:
    assert flow().encode_input(value) == b'{"urls":["a"],"depth":1}'


def test_input_stays_as_it_was_given() -> None:
    assert flow().encode_input({"urls": [], "for_others": None}) == b'{"urls":[],"for_others":null}'


def test_input_that_a_step_would_refuse_is_refused_at_the_start() -> None:
    with pytest.raises(InputError, match="input of flow 'sites', as step 'visit' takes it: urls: Field required"):
        flow().encode_input({})
    with pytest.raises(OutputError, match="input of flow 'sites' at depth is nan"):
        flow().encode_input({"urls": [], "depth": math.nan})


def test_every_step_that_takes_the_input_is_asked() -> None:
    made = flow()

    @made.step
    def count(everything: dict[str, int]) -> None: ...

    with pytest.raises(InputError, match="as step 'count' takes it"):
        made.encode_input({"urls": []})


def test_input_is_read_as_the_first_step_takes_it() -> None:
    assert flow().decode_input(b'{"urls": ["a"]}') == Site(urls=["a"])


def test_the_input_of_a_root_map_is_a_list_of_its_elements() -> None:
    made = Flow("sites")

    @made.map
    def visit(site: Site) -> None: ...

    assert made.decode_input(b'[{"urls": []}]') == [Site(urls=[])]
    assert made.encode_input([Site(urls=[])]) == b'[{"urls":[],"depth":3}]'
    with pytest.raises(InputError, match=r"as step 'visit' takes it: \[1\]: Input should be an object"):
        made.encode_input([Site(urls=[]), None])


def test_without_a_step_that_takes_it_any_json_is_an_input() -> None:
    made = Flow("any")

    @made.step
    def nothing() -> None: ...

    assert made.encode_input(None) == b"null"
    assert made.decode_input(b'{"a": [1]}') == {"a": [1]}
