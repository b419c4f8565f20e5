"""The way that bytes of some connections take: its weather and its speed."""

import asyncio
from collections.abc import Callable, Iterator
from enum import Enum, auto

PIECE = 16_384
"""Bytes that a narrow line passes on at once."""


class Weather(Enum):
    """What happens to bytes and to new connections."""

    CLEAR = auto()
    HELD = auto()
    """Packets are lost and sent again later: everything arrives once the weather is clear."""
    SWALLOWED = auto()
    """Bytes vanish for good and no side is informed: a connection that sends meanwhile stays dead for ever."""
    REFUSED = auto()
    """Connections are reset, new ones as well."""


class Line:
    """What happens to the connections that take it."""

    def __init__(self, reset: Callable[["Line"], None]) -> None:
        """Let everything pass.

        Args:
            reset: ends every connection on this line.
        """
        self._reset = reset
        self._weather = Weather.CLEAR
        self._passable = asyncio.Event()
        self._passable.set()
        self._reachable = asyncio.Event()
        self._reachable.set()
        self.latency = 0.0
        """Seconds added to each chunk, in each direction."""
        self.bandwidth: float | None = None
        """Bytes a second, in each direction; None: no limit."""
        self.trickle = False
        """One byte at a time."""

    @property
    def weather(self) -> Weather:
        """The weather now."""
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._weather = weather
        _put(self._passable, weather is not Weather.HELD)
        _put(self._reachable, weather is not Weather.SWALLOWED)
        if weather is Weather.REFUSED:
            self._reset(self)

    def heal(self) -> None:
        """Let everything pass from now on."""
        self.latency, self.bandwidth, self.trickle = 0.0, None, False
        self.weather = Weather.CLEAR

    async def passable(self) -> None:
        """Return once bytes are not held back."""
        await self._passable.wait()

    async def reachable(self) -> None:
        """Return once the other side would answer again, if only with a reset."""
        await self._reachable.wait()

    async def delay(self, size: int) -> None:
        """Take the time that so many bytes need at the sender's end."""
        if self.bandwidth is not None:
            await asyncio.sleep(size / self.bandwidth)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What is sent at once."""
        size = 1 if self.trickle else len(data) if self.bandwidth is None else PIECE
        return (data[index : index + size] for index in range(0, len(data), size))


def _put(event: asyncio.Event, wanted: bool) -> None:
    if wanted:
        event.set()
    else:
        event.clear()
