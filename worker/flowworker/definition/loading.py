"""Finding flows and queues by `MODULE:OBJECT`, as the command line names them."""

import importlib
import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TypeAlias, cast

from flowworker.definition.flow import Flow
from flowworker.definition.queue import Queue
from flowworker.errors import DefinitionError, HandlerImportError

Workload: TypeAlias = Flow | Queue
"""What a worker serves."""


def load(reference: str, *, directory: Path | None = None) -> list[Workload]:
    """Import a module and take flows and queues from it.

    Args:
        reference: `package.module:object` or `path/to/file.py:object`, where the object is a flow, a queue, or a list
            or tuple of them; dots reach into objects.
        directory: where modules are looked for besides `sys.path`; the current directory when left out.

    Returns:
        At least one flow or queue.

    Raises:
        HandlerImportError: it does not import, has no such object, or the object is something else.
        DefinitionError: the module defines a flow or queue wrongly, or two of them share their messages.
    """
    module_name, colon, object_path = reference.partition(":")
    if not module_name:
        raise HandlerImportError(f"{reference!r} names no module; write MODULE:OBJECT, for example app.flows:my_flow")
    module = import_module_or_file(module_name, directory=directory or Path.cwd())
    if not colon or not object_path:
        raise HandlerImportError(f"{reference!r} names no object; write one of: {_offered(module_name, module)}")
    found = _workloads(reference, _attribute(reference, module, object_path))
    refuse_shared_queues([*found, *(value for value in vars(module).values() if isinstance(value, (Flow, Queue)))])
    return found


def refuse_shared_queues(workloads: Iterable[Workload]) -> None:
    """Make sure that every flow and every queue has messages of its own.

    A flow and a queue of one name, in whatever case, are one pgmq queue: the queue's handlers would archive the
    messages of the flow's tasks.

    Raises:
        DefinitionError: two are one queue in the database.
    """
    seen: dict[str, Workload] = {}
    for workload in workloads:
        other = seen.setdefault(slug_of(workload).lower(), workload)
        if type(other) is not type(workload) or slug_of(other) != slug_of(workload):
            raise workload.place.error(
                repr(workload), f"it would share the messages of {other!r}, defined at {other.place.at}; rename one"
            )


def slug_of(workload: Workload) -> str:
    """The flow's slug or the queue's name."""
    return workload.slug if isinstance(workload, Flow) else workload.name


def import_module_or_file(name: str, *, directory: Path) -> ModuleType:
    """Import `package.module` or `path/to/file.py`.

    Raises:
        HandlerImportError: there is no such module or file, or importing it raised.
        DefinitionError: a definition in it is wrong.
    """
    if not name.endswith(".py"):
        if not all(part.isidentifier() for part in name.split(".")):
            raise HandlerImportError(f"{name!r} is no name of a module; write package.module or path/to/file.py")
        return _imported(name, directory)
    path = (directory / name).resolve()
    if not path.is_file():
        raise HandlerImportError(f"there is no file {name!r} in {directory}")
    return import_file(path)


def import_file(path: Path) -> ModuleType:
    """Import a file under its own name, with its folder on `sys.path` as when Python runs it.

    Raises:
        HandlerImportError: importing it raised.
        DefinitionError: a definition in it is wrong.
    """
    present = sys.modules.get(path.stem)
    if present is not None and getattr(present, "__file__", None) != str(path):
        raise HandlerImportError(f"{path} cannot be imported: a module named {path.stem!r} already is; rename the file")
    return _imported(path.stem, path.parent)


def _imported(name: str, directory: Path) -> ModuleType:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except DefinitionError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise HandlerImportError(
                f"there is no module {error.name!r} (looked for {name!r} in {directory} and on sys.path)"
                f"{_colon_suggestion(name, error.name)}"
            ) from error
        raise HandlerImportError(_failed_inside(name, error)) from error
    except (Exception, SystemExit) as error:
        raise HandlerImportError(_failed_inside(name, error)) from error


def _colon_suggestion(name: str, missing: str) -> str:
    """A hint where only the last part is missing: perhaps it is an object of the module before it."""
    module, _, last = name.rpartition(".")
    return f"; did you mean '{module}:{last}'?" if module and missing == name else ""


def _failed_inside(name: str, error: BaseException) -> str:
    text = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    return f"importing {name!r} failed{_where(error)}: {text}"


def _where(error: BaseException) -> str:
    """The innermost line of user code: neither the import system's nor ours."""
    if isinstance(error, SyntaxError):
        return f" at {error.filename}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    return f" at {frames[-1].filename}:{frames[-1].lineno}" if frames and frames[-1].filename != __file__ else ""


def _attribute(reference: str, module: ModuleType, path: str) -> object:
    found: object = module
    for name in path.split("."):
        if not hasattr(found, name):
            where = f"module {module.__name__!r}" if found is module else repr(found)
            raise HandlerImportError(f"{reference!r}: {where} has no {name!r}{_suggestion(name, found)}")
        found = getattr(found, name)
    return found


def _suggestion(name: str, owner: object) -> str:
    close = get_close_matches(name, dir(owner), n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def _workloads(reference: str, found: object) -> list[Workload]:
    if isinstance(found, (Flow, Queue)):
        return [found]
    if isinstance(found, (list, tuple)) and found:
        members = list(cast("Iterable[object]", found))
        workloads = [member for member in members if isinstance(member, (Flow, Queue))]
        if len(workloads) == len(members):
            return workloads
    raise HandlerImportError(f"{reference!r} is {found!r}, neither a Flow nor a Queue nor a list of them")


def _offered(module_name: str, module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, (Flow, Queue))]
    return ", ".join(f"{module_name}:{name}" for name in names) or f"nothing, {module_name!r} has no flow and no queue"
