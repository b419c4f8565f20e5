"""Trying a pattern only where one of a few words stands, which costs a tenth of trying it everywhere."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from flowworker.redaction.words import HIDDEN

Replacement: TypeAlias = Callable[[re.Match[str]], str]


def hide(found: re.Match[str]) -> str:
    """The first group of what was found, and stars for the rest."""
    return f"{found[1]}{HIDDEN}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How one kind of secret is written. Compiled when first needed: all together take a command milliseconds."""

    begins: tuple[str, ...]
    """Plain texts in small letters; the pattern begins with one of them."""
    pattern: str
    hints: tuple[str, ...] = ()
    """One of these must be in the text as well, in small letters."""
    replaced_by: Replacement = hide
    reach: int = 0
    """Characters that the pattern, which begins a word, may search from each place; of a crowd some are not tried."""


class Shapes:
    """Several shapes, looked for one after the other."""

    def __init__(self, *shapes: Shape) -> None:
        """Compile nothing yet."""
        self._shapes = shapes
        self.words = frozenset(word for shape in shapes for word in shape.hints or shape.begins)

    def hide_in(self, text: str) -> str:
        """The text without what has one of the shapes."""
        lowered = lower(text)
        if len(text) < SHORT and not holds(lowered, self.words):
            return text
        found: dict[tuple[str, ...], list[int]] = {}
        for shape in self._shapes:
            if shape.hints and not holds(lowered, shape.hints):
                continue
            if (places := found.get(shape.begins)) is None:
                places = found[shape.begins] = _places(shape.begins, lowered)
            if places and (hidden := _without_shape(text, places, shape)) is not text:
                text, lowered = hidden, lower(hidden)
                found.clear()
        return text


MOST_NEAR = 8

SHORT = 300
"""Characters; a text that is short, as most are, is first searched for any word at all."""


def lower(text: str) -> str:
    """The text in small letters, each in its place: one capital has a small form of two characters."""
    return text.lower() if text.isascii() else text.replace("\u0130", "i").lower()


def holds(text: str, words: Iterable[str]) -> bool:
    """Whether any of the words is in the text. A pattern of all words takes as long, and at a start 9 ms to compile."""
    for word in words:  # noqa: SIM110 - `any` over a generator takes twice as long, and most texts hold none
        if word in text:
            return True
    return False


def _places(words: tuple[str, ...], lowered: str) -> list[int]:
    places: list[int] = []
    for word in words:
        at = lowered.find(word)
        while at >= 0:
            places.append(at)
            at = lowered.find(word, at + 1)
    places.sort()
    return places


def _without_shape(text: str, places: list[int], shape: Shape) -> str:
    pieces: list[str] = []
    done, pattern = 0, compiled(shape.pattern)
    for start in _not_crowded(text, places, shape.reach) if shape.reach else places:
        if start >= done and (found := pattern.match(text, start)):
            pieces += [text[done:start], shape.replaced_by(found)]
            done = found.end()
    return "".join([*pieces, text[done:]]) if pieces else text


def _not_crowded(text: str, places: Iterable[int], reach: int) -> Iterator[int]:
    """At most MOST_NEAR words within reach of one another: more commands stand in no line that is one."""
    tried: deque[int] = deque(maxlen=MOST_NEAR)
    for place in places:
        begins = place == 0 or not (text[place - 1].isalnum() or text[place - 1] in "_-")
        if begins and (len(tried) < MOST_NEAR or place - tried[0] >= reach):
            tried.append(place)
            yield place


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern, compiled once."""
    return re.compile(pattern)
