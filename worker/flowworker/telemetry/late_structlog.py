"""Configuring structlog when it is imported, which may be late: in a handler, or by a library at its first line.

It is not imported for this: it costs 4 MiB, and most programs log without it.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

NAME = "structlog"


def when_structlog_is_imported(configure: Callable[[], None]) -> None:
    """Call this now when structlog is imported, else as soon as it is; replaces what an earlier call left."""
    forget()
    if NAME in sys.modules:
        configure()
    else:
        sys.meta_path.insert(0, _Watcher(configure))


def forget() -> None:
    """Take back what a call has left."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Watcher)]


class _Watcher(MetaPathFinder):
    """Finds structlog as the others do, with a loader that configures it afterwards."""

    def __init__(self, configure: Callable[[], None]) -> None:
        self._configure = configure

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != NAME:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        spec = find_spec(NAME)
        if spec is not None and spec.loader is not None:
            spec.loader = _ConfiguringLoader(spec.loader, self._configure)
        return spec


class _ConfiguringLoader(Loader):
    """Another loader, and a call when it is done."""

    def __init__(self, loader: Loader, configure: Callable[[], None]) -> None:
        self._loader = loader
        self._configure = configure

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._configure()

    def __getattr__(self, name: str) -> object:
        """What else it can, such as giving its source to a traceback."""
        return getattr(self._loader, name)
