"""Names of workers and pools in one process."""

import pytest

from flowworker.errors import UsageError
from flowworker.runtime.pool import claim_name, release_name


def test_a_name_is_free_again_after_its_release() -> None:
    claim_name("taken")
    with pytest.raises(UsageError, match="'taken' is in use"):
        claim_name("taken")
    release_name("taken")
    claim_name("taken")
    release_name("taken")
    release_name("never seen")
