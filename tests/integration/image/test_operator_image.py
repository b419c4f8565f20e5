"""What the operator image promises, tried on the archive that `python -m tools.build_image operator` leaves."""

import json
import subprocess
from pathlib import Path

import pytest
from tests.integration.image.conftest import Image
from tests.integration.image.container import Container, run
from tools.sbom.__main__ import write

pytestmark = [pytest.mark.image, pytest.mark.xdist_group("image"), pytest.mark.timeout(1200)]

IMAGE = "operator"


def test_it_asks_for_a_numeric_user_that_is_not_root(image: Image) -> None:
    assert image.config["User"] == "65532:65532"
    assert image.config["Entrypoint"] == ["tini", "--", "python", "-m", "flowworker_operator"]


def test_it_holds_kopf_and_the_kubernetes_client_and_no_command_line_or_build_tool(container: Container) -> None:
    code = """
import shutil
from importlib.util import find_spec
wanted = ("flowworker_operator", "kopf", "kubernetes", "asyncpg", "uvloop")
print([name for name in wanted if not find_spec(name)])
unwanted = ("pip", "setuptools", "wheel", "ensurepip", "hatchling", "pytest", "typer", "rich", "opentelemetry")
print([name for name in unwanted if find_spec(name)])
programs = ("gcc", "cc", "ld", "make", "pip", "pip3", "uv", "git", "curl", "wget", "flowworker")
print([name for name in programs if shutil.which(name)])
"""
    assert run(container.command("-c", code, program="python")) == "[]\n[]\n[]\n"


def test_it_holds_the_asynchronous_half_of_the_kubernetes_client_alone(container: Container) -> None:
    code = """
from importlib.metadata import distributions
from pathlib import Path
import kubernetes
print(sorted(path.parent.name for path in Path(kubernetes.__file__).parent.glob("*/__init__.py")))
names = {distribution.name.lower().replace("_", "-") for distribution in distributions()}
print("kubernetes" in names)
of_the_other_half = "certifi charset-normalizer durationpy oauthlib requests requests-oauthlib websocket-client"
print(names.intersection(of_the_other_half.split()))
"""
    assert run(container.command("-c", code, program="python")) == "['aio']\nTrue\nset()\n"


def test_every_module_of_the_operator_can_be_imported(container: Container) -> None:
    code = """
import pkgutil, flowworker_operator
for module in pkgutil.walk_packages(flowworker_operator.__path__, "flowworker_operator."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
import kubernetes.aio.client, kubernetes.aio.config
"""
    assert run(container.command("-c", code, program="python")) == ""


def test_its_bill_of_materials_lists_every_python_package_inside(
    image: Image, container: Container, tmp_path: Path
) -> None:
    code = """
from importlib.metadata import distributions
print(*sorted(distribution.name + " " + distribution.version for distribution in distributions()), sep="\\n")
"""
    inside = run(container.command("-c", code, program="python")).splitlines()
    listed = json.loads(write(image.archive, tmp_path).read_text())["components"]
    assert inside == sorted(f"{one['name']} {one['version']}" for one in listed if one["purl"].startswith("pkg:pypi/"))


def test_everything_it_imports_at_start_is_compiled(container: Container) -> None:
    code = """
import os, sys
from importlib.util import cache_from_source
import flowworker_operator.app
for name, module in sorted(sys.modules.items()):
    file = getattr(module, "__file__", None) or ""
    if file.endswith(".py") and not os.path.exists(cache_from_source(file)):
        print(name)
"""
    assert run(container.command("-c", code, program="python")) == ""


def test_outside_of_a_cluster_it_says_what_is_missing_and_writes_nothing(container: Container) -> None:
    done = subprocess.run(container.command(), check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 64, done.stderr
    assert "FLOWWORKER_OPERATOR_KUBECONFIG" in done.stderr


@pytest.mark.slow
def test_a_second_build_gives_the_same_bytes(image: Image) -> None:
    first = image.digest()
    image.build()
    assert image.digest() == first
