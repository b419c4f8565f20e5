"""The package's front door."""

import subprocess
import sys

import pytest

import flowworker


def test_importing_the_package_loads_nothing_else() -> None:
    program = (
        "import sys, flowworker; print([name for name in sys.modules if name.startswith(('flowworker.', 'pydantic'))])"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["Flow", "Queue", "Step", "Job", "TaskContext", "Retry", "Fail", "InputError"])
def test_public_names_come_from_the_package(name: str) -> None:
    assert getattr(flowworker, name).__name__ == name
    assert name in dir(flowworker)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'flowworker' has no attribute 'Flows'"):
        flowworker.Flows  # noqa: B018 # pyright: ignore
