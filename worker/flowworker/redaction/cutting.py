"""The part of a long text that is looked at, so that hiding secrets in it costs no more than in a short one.

A part ends in a margin. What stands in it may be half a secret, so it helps to find secrets and is not shown. Hiding
makes a text shorter, and so may draw the margin into what would be shown: `Window.sure_of` says how much may be.
"""

from dataclasses import dataclass

MARGIN = 4096
"""Characters; longer than the secrets that are found by their shape, except those that are hidden to an end that need
not be there, such as keys in PEM."""

_OPEN = ("://", "%3a%2f%2f", "%253a%252f%252f")
"""Behind these a password may follow that only the `@` after it gives away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A part of a text, or all of it."""

    text: str
    margin: int = 0
    """Characters at the cut that are not to be shown."""
    is_cut: bool = True
    """Whether it is only a part."""
    at_end: bool = False
    """Whether the part is the end of the text."""

    def sure_of(self, hidden: str, mark: str) -> int:
        """How many characters of `hidden`, counted from the end that was not cut, hold no half of a secret.

        Args:
            hidden: the text of the window with its secrets replaced.
            mark: what they were replaced by. What stands before the first one is as it was.
        """
        if not self.is_cut:
            return len(hidden)
        at = len(hidden) - hidden.rfind(mark) if self.at_end else hidden.find(mark) + len(mark)
        untouched = min(at, len(self.text) - self.margin) if mark in hidden else 0
        return max(len(hidden) - self.margin, untouched, 0)


def window_at_start(text: str, limit: int, longest: int) -> Window:
    """The beginning of a text.

    Args:
        text: of any length.
        limit: characters that may be shown.
        longest: characters of the longest secret that is known by its value.
    """
    margin = _margin(longest)
    if len(text) <= limit + margin:
        return Window(text=text, is_cut=False)
    return Window(text=_without_open_word(text[: limit + margin]), margin=margin)


def window_at_end(text: str, limit: int, longest: int) -> Window:
    """The end of a text, without the word in which it was cut; see `window_at_start`."""
    margin = _margin(longest)
    if len(text) <= limit + margin:
        return Window(text=text, is_cut=False)
    window = text[len(text) - limit - margin :]
    _, *rest = window.split(maxsplit=1) or [""]
    kept = rest[0] if rest else ""
    return Window(text=kept, margin=max(margin - (len(window) - len(kept)), 0), at_end=True)


def _margin(longest: int) -> int:
    return max(MARGIN, 2 * longest)  # a hidden secret of one character grows


def _without_open_word(window: str) -> str:
    """A window without what follows the scheme of a URI in the word that was cut."""
    if window[-1].isspace():
        return window
    word = window.rsplit(maxsplit=1)[-1]
    lowered = word.lower() if word.isascii() else word
    ends = [at + len(mark) for mark in _OPEN if (at := lowered.find(mark)) >= 0]
    return window[: len(window) - len(word) + min(ends)] if ends else window
