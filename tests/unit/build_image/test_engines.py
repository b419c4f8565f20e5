"""Which engine builds the images; `e2e/test_kind_life.py` builds with a real docker."""

from pathlib import Path

import pytest
from tests.cluster.stand_in import StandIn
from tools.build_image.commands import BuildError
from tools.build_image.engines import Engine, builds, choose

BUILDX = "unknown command: docker buildx"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The only programs on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return StandIn(tmp_path)


@pytest.mark.parametrize(
    ("version", "buildx", "able"),
    [("20.10.24+dfsg1", False, True), ("28.2.2", False, False), ("28.2.2", True, True)],
)
def test_docker_builds_where_it_has_buildkit_built_in_or_beside_it(
    programs: StandIn, version: str, buildx: bool, able: bool
) -> None:
    programs.program("docker")
    programs.answer("info", "")
    programs.answer("version --format", f"{version}\n")
    programs.answer("buildx", "" if buildx else BUILDX, code=0 if buildx else 1)
    assert builds(Engine.DOCKER) is able


def test_a_docker_without_buildkit_gives_way_to_another_builder_or_says_what_to_install(programs: StandIn) -> None:
    programs.program("docker")
    programs.answer("info", "")
    programs.answer("version --format", "28.2.2\n")
    programs.answer("buildx", BUILDX, code=1)
    with pytest.raises(BuildError, match="docker-buildx"):
        choose()
    programs.program("buildah")
    assert choose() is Engine.BUILDAH
