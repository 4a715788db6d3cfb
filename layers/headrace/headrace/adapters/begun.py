"""Calls that have begun: in another thread, or to be read on by whoever waits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T_co = TypeVar("T_co", covariant=True)


class Begun(Protocol[T_co]):
    """A call that has begun; ``concurrent.futures.Future`` fulfils it."""

    def done(self) -> bool:
        """Whether there is a result or an error."""

    def exception(self) -> BaseException | None:
        """What went wrong, of a call that is done."""

    def result(self) -> T_co:
        """What the call gave; its error is raised."""


class InPlace:
    """A call that goes on only while somebody waits for it: no thread is behind it.

    A plain base class: whether a call is one is asked several times a request, and a Protocol or
    an abstract class takes its time to say so.
    """

    def proceed(self, left: Callable[[], float]) -> None:
        """Go on until it is done, or no time is left.

        Args:
            left: Seconds.
        """
        raise NotImplementedError

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        raise NotImplementedError

    def is_stale(self) -> bool:
        """Whether it failed because its connection had been closed before: begin again."""
        raise NotImplementedError
