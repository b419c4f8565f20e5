"""The table of valid and invalid resources, as far as the models can judge it."""

import pytest
from pydantic import ValidationError
from tests.unit.operator.admission import BY_RULE, INVALID, VALID, spec_with

from flowworker_operator.api.crd import custom_resource_definition
from flowworker_operator.api.spec import FlowWorkerSpec


@pytest.mark.parametrize("name", VALID)
def test_a_valid_resource_is_taken_and_keeps_what_was_written(name: str) -> None:
    written = spec_with(VALID[name])
    read = FlowWorkerSpec.model_validate(written, strict=False)
    again = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert again == written


@pytest.mark.parametrize("name", sorted(INVALID.keys() - BY_RULE))
def test_an_invalid_resource_is_refused_and_the_field_is_named(name: str) -> None:
    changes, field = INVALID[name]
    with pytest.raises(ValidationError) as caught:
        FlowWorkerSpec.model_validate(spec_with(changes))
    blamed = {".".join(map(str, error["loc"])) or "spec" for error in caught.value.errors()}
    assert any(one.startswith(field) for one in blamed)


def test_what_the_models_cannot_judge_is_a_rule_of_the_crd() -> None:
    schema = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    blamed = {rule.get("fieldPath", "").strip(".") for rule in schema["properties"]["spec"]["x-kubernetes-validations"]}
    assert {INVALID[name][1] for name in BY_RULE} <= blamed


def test_the_table_is_long_enough() -> None:
    assert len(VALID) + len(INVALID) >= 60
