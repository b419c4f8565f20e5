"""The licence of a Python distribution as an SPDX expression, and which licences may be shipped."""

import re
from collections.abc import Iterable
from email.message import Message

SHIPPABLE = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PostgreSQL", "PSF-2.0"),
        "MPL-2.0",  # of files, not of what uses them: their source is public, and they are not modified here
    }
)
"""Licences that what is shipped may have: they ask for a notice at most."""

SPELLINGS = {
    "apache 2.0": "Apache-2.0",
    "isc license": "ISC",
    "mit license": "MIT",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd 2-clause license": "BSD-2-Clause",
    "apache software license": "Apache-2.0",
    "isc license (iscl)": "ISC",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""What older packages say, in the field `License` or in a classifier, instead of the identifier."""

IDENTIFIERS = {identifier.lower(): identifier for identifier in SHIPPABLE}


def licence_of(metadata: Message) -> str | None:
    """The expression that the metadata of a distribution gives; None when it names no licence that is known here."""
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = metadata.get_all("Classifier") or []
    stated = [
        metadata.get("License") or "",
        *(name.rpartition("::")[2] for name in classifiers if name.startswith("License ::")),
    ]
    return next((known for text in stated if (known := _known(text))), None)


def _known(text: str) -> str | None:
    plain = text.strip().lower()
    return IDENTIFIERS.get(plain) or SPELLINGS.get(plain)


def refused(expression: str | None) -> bool:
    """Whether an expression names a licence that may not be shipped, be it as one of several to choose from."""
    return expression is None or not SHIPPABLE.issuperset(identifiers(expression))


def identifiers(expression: str) -> Iterable[str]:
    """The licences that an expression names."""
    return [word for word in re.findall(r"[^\s()]+", expression) if word not in ("AND", "OR")]
