"""JSON of any depth, made fit for parsers that go only so deep.

The API server takes objects that are nested ten thousand deep; our parsers take about a thousand, and kopf, which
copies objects, half of that. What lies deeper than any object needs is cut before they see it, so that one such object
hides no other. What is left is still deeper than a template may be, which is so refused and never taken for whole.
"""

import re
from collections.abc import Iterator

DEEPEST = 320
"""Levels that are kept; objects that are of use have about twenty."""

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]+|[\]}]+', re.DOTALL)
_STRING, _OPENING = b'"', b"[{"


def shallow(text: bytes) -> bytes:
    """The same JSON with `null` in place of what is nested deeper than `DEEPEST` levels."""
    if text.count(b"{") + text.count(b"[") <= DEEPEST:
        return text
    return b"".join(_kept(text))


def _kept(text: bytes) -> Iterator[bytes]:
    depth = since = 0
    for token in _TOKEN.finditer(text):
        begin, end = token.span()
        first = text[begin : begin + 1]
        if first == _STRING:
            continue
        if first in _OPENING:
            if depth <= DEEPEST < depth + end - begin:
                yield text[since : begin + DEEPEST - depth]
                yield b"null"
            depth += end - begin
        else:
            if depth - (end - begin) <= DEEPEST < depth:
                since = begin + depth - DEEPEST
            depth -= end - begin
    if depth <= DEEPEST:
        yield text[since:]
