"""One image, several names."""

import io
import json
import tarfile
from pathlib import Path

from tools.build_image.archives import rename
from tools.build_image.catalogue import IMAGES, chosen


def test_an_archive_gets_all_names_and_keeps_the_rest(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    manifest = [{"Config": "c.json", "RepoTags": ["localhost/x:old"], "Layers": ["layer.tar"]}]
    contents = {"layer.tar": b"layer", "manifest.json": json.dumps(manifest).encode(), "repositories": b"{}"}
    with tarfile.open(archive, "w") as written:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            written.addfile(entry, io.BytesIO(content))
    rename(archive, ["localhost/x:a", "localhost/x:b"])
    with tarfile.open(archive) as read:
        files = {member.name: read.extractfile(member) for member in read}
        found = {name: file.read() for name, file in files.items() if file is not None}
    assert found["layer.tar"] == b"layer"
    assert json.loads(found["manifest.json"]) == [{**manifest[0], "RepoTags": ["localhost/x:a", "localhost/x:b"]}]
    assert set(found) == {"layer.tar", "manifest.json"}


def test_all_is_every_image_once() -> None:
    assert chosen(["worker", "all"]) == list(IMAGES.values())
    assert chosen(["operator", "operator"]) == [IMAGES["operator"]]
