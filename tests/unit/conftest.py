"""Unit tests come in any order, and none leaves a secret known that changes what another one reads."""

import pytest

from flowworker.redaction import known


@pytest.fixture(autouse=True)
def no_secrets_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with what the environment holds."""
    monkeypatch.setattr(known, "_knowledge", None)
