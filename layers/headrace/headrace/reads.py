"""What one request reads before its deadline, as Protocols; ``adapters.lookups`` fulfils them.

May import ports and scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.ports import StoredState
    from headrace.scores import Known, ScoreRecord


class Lookup(Protocol):
    """What one request reads, all of it before one deadline. No call outlasts the deadline."""

    def states(self) -> dict[str, StoredState]:
        """The states that were asked for; keys without an item are left out.

        Raises:
            CircuitOpen: The store was not asked.
            StoreSlow: It did not answer in time.
            StoreUnavailable: It failed.
        """

    def known(self) -> dict[str, Known] | None:
        """What is stored of the entities to fall back on; None where it could not be read."""

    def record(self, event_id: str) -> ScoreRecord | None:
        """The stored score of an event.

        Raises:
            StoreUnavailable: The store did not answer in time, or failed.
        """

    def mark_read(self, keys: Sequence[str]) -> None:
        """Note that batch scores were given, as far as time allows; never fails."""


class Lookups(Protocol):
    """Reads of requests under a deadline."""

    def begin(self, states: Sequence[str], known: Sequence[str]) -> Lookup:
        """Begin the reads of one request; its time runs from here.

        Args:
            states: Keys whose states are needed; may be none.
            known: Keys of entities whose last and batch scores may be needed.
        """
