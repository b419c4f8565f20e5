"""Laws of drift that hold for every object."""

from copy import deepcopy
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from flowworker_operator.render.drift import drifted

fields = st.sampled_from(["name", "mountPath", "containerPort", "path", "uid", "value", "runAsUser", "items"])
scalars = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "a", "b", "1", "500m"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(fields, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(fields, values, max_size=5)


def with_more(value: Any) -> Any:
    """The same with a field more in every map, as if the API server had completed it."""
    match value:
        case dict():
            entries = cast("dict[str, Any]", value)
            return {"added": "x", **{key: with_more(one) for key, one in entries.items()}}
        case list():
            return [with_more(one) for one in cast("list[Any]", value)]
        case _:
            return value


@given(objects)
def test_nothing_drifts_from_itself(item: dict[str, Any]) -> None:
    assert not drifted(item, deepcopy(item))


@given(objects)
def test_what_others_add_is_no_drift(item: dict[str, Any]) -> None:
    assert not drifted(item, with_more(item))
