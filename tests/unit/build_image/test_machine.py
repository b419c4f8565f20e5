"""How the image build reads the machine it runs on."""

from pathlib import Path

import pytest
from tools.build_image.commands import BuildError, install
from tools.build_image.engines import Engine, Recipe, flags
from tools.build_image.machine import default_base, pip_settings, system_from

ARCHIVE = "http://mirror.example/debian/|{}|main|Debian|$(SIGNED_BY)"


def test_a_base_takes_the_systems_own_archives_and_no_vendors() -> None:
    targets = "\n".join(
        [
            ARCHIVE.format("trixie-updates"),
            ARCHIVE.format("trixie"),
            "http://mirror.example/debian-security/|trixie-security|main|Debian-Security|/usr/share/keyrings/debian.pgp",
            "https://vendor.example/apt/|stable|main|Vendor|/etc/apt/vendor.gpg",
        ]
    )
    assert system_from(targets) == (
        "trixie",
        "deb http://mirror.example/debian/ trixie-updates main\n"
        "deb http://mirror.example/debian/ trixie main\n"
        "deb [signed-by=/usr/share/keyrings/debian.pgp] http://mirror.example/debian-security/ trixie-security main\n",
    )


def test_a_machine_without_debian_archives_gets_advice() -> None:
    with pytest.raises(BuildError, match="--base IMAGE"):
        system_from("")


def test_pip_settings_of_the_environment_win_over_files() -> None:
    listing = (
        ":env:.index-url='https://user:p@index.example/simple'\n"
        "global.index-url='https://file.example/simple'\nglobal.cert='/etc/ca.pem'\nglobal.timeout='9'\n"
    )
    assert pip_settings(listing) == {"index-url": "https://user:p@index.example/simple", "cert": "/etc/ca.pem"}


def test_the_default_base_is_the_dockerfiles(tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("ARG BASE=python:3.99-slim\nARG BUILD_BASE=${BASE}\n")
    assert default_base(dockerfile) == "python:3.99-slim"


@pytest.mark.parametrize("engine", Engine)
def test_every_engine_gets_arguments_secrets_and_a_date(engine: Engine) -> None:
    recipe = Recipe(
        dockerfile=Path("Dockerfile"),
        context=Path(),
        tags=["localhost/x:1", "localhost/x:2"],
        epoch=7,
        arguments={"BASE": "b"},
        labels={"version": "1"},
        secrets={"pip.conf": Path("secret")},
    )
    given = " ".join(flags(engine, recipe))
    tags = "--tag localhost/x:1 --tag localhost/x:2"
    assert f"{tags} --build-arg BASE=b --label version=1 --secret id=pip.conf,src=secret" in given
    assert ("SOURCE_DATE_EPOCH=7" if engine is Engine.DOCKER else "--timestamp 7") in given


def test_who_may_not_install_reads_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match="apt-get install buildah runc"):
        install(["buildah", "runc"])
