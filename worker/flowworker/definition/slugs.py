"""The names pgflow and pgmq accept, and those that will make trouble later.

Each rule is a function from a name to the problem it has, as the end of a sentence, or None. Length limits are not
alike: pgflow takes slugs of 128 characters, but a flow is also the name of its queue, and pgmq takes 47. It counts
characters where PostgreSQL counts bytes and cuts a table's name without a word, so here bytes count.
"""

import re
import string

LONGEST_QUEUE_NAME = 47
LONGEST_SLUG = 128
RESERVED_SLUGS = frozenset({"run"})

_SLUG = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_LOWER_ASCII = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_REFUSED_IN_QUEUE_NAMES = re.compile(r"\$|;|--|'")


def step_slug_problem(slug: str) -> str | None:
    """Why pgflow refuses `slug` as a step; None when it does not."""
    if problem := _text_problem(slug):
        return problem
    if slug in RESERVED_SLUGS:
        return f"is a reserved word ({', '.join(sorted(RESERVED_SLUGS))})"
    if not _SLUG.fullmatch(slug):
        return "must be letters, digits and underscores (ASCII), and not start with a digit"
    if len(slug) > LONGEST_SLUG:
        return f"has {len(slug)} characters, at most {LONGEST_SLUG} are allowed"
    return None


def flow_slug_problem(slug: str) -> str | None:
    """Why pgflow, or pgmq for the flow's queue, refuses `slug` as a flow; None when neither does."""
    return step_slug_problem(slug) or _length_problem(slug)


def queue_name_problem(name: str) -> str | None:
    """Why pgmq refuses `name` as a queue; None when it does not."""
    if problem := _text_problem(name):
        return problem
    if "\0" in name:
        return "contains U+0000"
    if _REFUSED_IN_QUEUE_NAMES.search(name):
        return "contains one of the characters pgmq refuses: $ ; -- '"
    if name.lower() != name.translate(_LOWER_ASCII):
        return "has a capital letter outside of ASCII, which databases of other locales fold in other ways"
    return _length_problem(name)


def can_notify(name: str) -> bool:
    """Whether pgmq announces inserts into this queue: it never does for a name with capitals."""
    return name == name.lower()


def slug_advice(slug: str) -> str | None:
    """What a newer pgflow (0.17) refuses about a slug that today's accepts; None when nothing."""
    if slug.startswith("_") or slug.endswith("_"):
        return "pgflow 0.17 refuses a leading or trailing underscore"
    if "__" in slug:
        return "pgflow 0.17 refuses a double underscore"
    if len(slug) > LONGEST_QUEUE_NAME:
        return f"pgflow 0.17 can give a step its own queue, whose name has at most {LONGEST_QUEUE_NAME} characters"
    return None


def _text_problem(name: object) -> str | None:
    if not isinstance(name, str):
        return f"must be text, not {type(name).__name__}"
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "contains half of a surrogate pair"
    return None if name else "is empty"


def _length_problem(name: str) -> str | None:
    size = len(name.encode())
    if size > LONGEST_QUEUE_NAME:
        measure = "characters" if name.isascii() else "bytes in UTF-8"
        return f"has {size} {measure}, but a queue's name has at most {LONGEST_QUEUE_NAME}"
    return None
