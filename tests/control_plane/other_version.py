"""An operator of another version: it makes another pod template of the same spec."""

import sys
from typing import Any

from flowworker_operator.__main__ import main
from flowworker_operator.render import rendering

MARK = "flowworker.dev/made-by-another-version"


def mark_templates() -> None:
    """Let every template differ from that of the present version."""
    module: Any = rendering
    present = module.pod_template

    def other(name: str, spec: Any) -> dict[str, Any]:
        template: dict[str, Any] = present(name, spec)
        template["metadata"]["annotations"][MARK] = "yes"
        return template

    module.pod_template = other


if __name__ == "__main__":
    mark_templates()
    sys.exit(main())
