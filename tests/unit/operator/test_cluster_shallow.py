"""JSON that is nested deeper than parsers go, cut to what they take."""

import json
from typing import Any

import orjson
import pytest

from flowworker_operator.cluster.shallow import DEEPEST, shallow


def chain(depth: int, core: str = "1") -> str:
    """Objects and lists in turn around a core."""
    return (
        "".join('{"a":' if level % 2 else "[" for level in range(depth))
        + core
        + "".join("}" if level % 2 else "]" for level in reversed(range(depth)))
    )


def depth_of(value: Any) -> int:
    depth = 0
    while value is not None:
        depth, value = depth + 1, value["a" if depth % 2 else 0]
    return depth


@pytest.mark.parametrize("parse", [orjson.loads, json.loads])
@pytest.mark.parametrize("depth", [DEEPEST + 1, DEEPEST + 2, 2 * DEEPEST, 9990])
def test_what_is_nested_too_deep_can_be_parsed_once_it_is_cut(parse: Any, depth: int) -> None:
    found = parse(shallow(f'{{"before":[{{}}],"deep":{chain(depth - 1)},"after":{{"b":[]}}}}'.encode()))
    assert (found["before"], found["after"]) == ([{}], {"b": []})
    assert depth_of(found["deep"]) == DEEPEST - 1


@pytest.mark.parametrize("depth", [1, DEEPEST - 1, DEEPEST])
def test_what_is_nested_as_deep_as_allowed_stays_as_it_is(depth: int) -> None:
    text = f"[{', '.join([chain(depth - 1)] * 3)}]".encode() if depth > 1 else b"[" + b"1," * 2000 + b"1]"
    assert shallow(text) == text


def test_any_number_of_objects_side_by_side_stays_as_it_is() -> None:
    text = orjson.dumps([{"name": str(number), "of": [[], {}, [{}]]} for number in range(DEEPEST)])
    assert shallow(text) == text


def test_brackets_in_texts_are_no_levels() -> None:
    texts = ["[" * 5000, '{"' * 5000, '\\"[' * 5000, "\\", "]" * 5000, '"}']
    assert orjson.loads(shallow(orjson.dumps(texts))) == texts
    deep = '{"]\\"}":[' * DEEPEST + '"]}"' + "]}" * DEEPEST
    assert orjson.loads(shallow(f"[{deep},3]".encode()))[1] == 3


def test_runs_of_brackets_are_cut_at_the_right_one() -> None:
    found = orjson.loads(shallow(b"[" * 2000 + b"]" * (2000 - DEEPEST + 1) + b",7" + b"]" * (DEEPEST - 1)))
    for _ in range(DEEPEST - 2):
        (found,) = found
    assert found == [[None], 7]


def test_what_is_no_json_stays_none() -> None:
    for text in (b"[" * 2000, b"]" * 2000, b'"' + b"[" * 2000, b"[" * 2000 + b"]" * 1000):
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(shallow(text))
