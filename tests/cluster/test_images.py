"""Images that are made without a container engine."""

import hashlib
import json
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest
from testkit.cluster import images
from testkit.cluster.configuration import PAUSE_IMAGE
from testkit.cluster.errors import BuildError
from testkit.cluster.images import Contents, pause_archive, tools_archive, write_archive

CONTENTS = Contents(
    name="localhost/thing:1",
    files={"bin/thing": b"program"},
    entrypoint=["/bin/thing"],
    links={"bin/alias": "thing"},
    folders=["tmp"],
)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def test_an_archive_holds_what_containerd_and_kind_look_for(tmp_path: Path) -> None:
    path = tmp_path / "thing.tar"
    write_archive(path, CONTENTS)
    with tarfile.open(path) as archive:
        ((manifest,), layer) = json.loads(_member(archive, "manifest.json")), _member(archive, "layer.tar")
        configuration = _member(archive, manifest["Config"])
    assert manifest["RepoTags"] == ["localhost/thing:1"]
    assert manifest["Layers"] == ["layer.tar"]
    assert manifest["Config"] == f"{hashlib.sha256(configuration).hexdigest()}.json"
    described = json.loads(configuration)
    assert described["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert described["config"]["Entrypoint"] == ["/bin/thing"]


def test_equal_contents_give_equal_archives(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_archive(tmp_path / name, CONTENTS)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_the_pause_image_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pause_archive(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert pause_archive(tmp_path) == first
    with tarfile.open(first) as archive:
        (manifest,) = json.loads(_member(archive, "manifest.json"))
    assert manifest["RepoTags"] == [PAUSE_IMAGE]


def test_the_pause_program_ends_at_sigterm(tmp_path: Path) -> None:
    pause_archive(tmp_path)
    (program,) = (path for path in tmp_path.iterdir() if path.suffix == "")
    process = subprocess.Popen([program])
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) in (0, -signal.SIGTERM)


def test_the_tools_image_has_a_shell(tmp_path: Path) -> None:
    with tarfile.open(tools_archive(tmp_path)) as archive:
        layer_file = archive.extractfile("layer.tar")
        assert layer_file is not None
        with tarfile.open(fileobj=layer_file) as layer:
            assert layer.getmember("bin/sh").linkname == "busybox"
            assert layer.getmember("tmp").mode == 0o1777


def test_what_is_missing_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match="install gcc"):
        pause_archive(tmp_path)
    monkeypatch.setattr(images, "BUSYBOX", tmp_path / "nothing")
    with pytest.raises(BuildError, match="install busybox-static"):
        tools_archive(tmp_path)
