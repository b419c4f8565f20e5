"""Docker-archives: giving one image several names, which buildah cannot."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

MANIFEST = "manifest.json"
OLD_LISTING = "repositories"
"""Of the format before `manifest.json`, with one tag per image; no tool reads it any more."""


def rename(archive: Path, tags: Sequence[str]) -> None:
    """Write the archive of one image anew, so that the image has exactly these full names."""
    draft = archive.with_suffix(".renamed")
    with tarfile.open(archive) as source, tarfile.open(draft, "w", format=tarfile.GNU_FORMAT) as target:
        for member in source:
            if member.name not in (MANIFEST, OLD_LISTING):
                target.addfile(member, source.extractfile(member) if member.isfile() else None)
        described = source.extractfile(MANIFEST)
        assert described is not None
        (image,) = json.load(described)
        content = json.dumps([{**image, "RepoTags": list(tags)}]).encode()
        entry = tarfile.TarInfo(MANIFEST)
        entry.size = len(content)
        target.addfile(entry, io.BytesIO(content))
    draft.replace(archive)
