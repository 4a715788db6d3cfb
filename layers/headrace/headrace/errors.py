"""Every error that Headrace raises, sorted by what the caller must do.

    HeadraceError
    |-- Rejected                 the input is wrong: sending it again cannot help
    |   |-- EventRejected        an event has faults (all of them at once)
    |   |-- RunRejected          an order for a batch run has mistakes
    |   |-- LoadRejected         a file of a table breaks the definition, or is older than another
    |   `-- TooLarge             more bytes or events than the limit
    |-- Unavailable              a dependency failed: the same call may work later
    |   |-- StoreUnavailable     DynamoDB or S3 did not answer in time or refused
    |   |   |-- StoreSlow        no answer within the time that a request has for it
    |   |   `-- CircuitOpen      not asked: it failed too often just now
    |   |-- StreamUnavailable    Kinesis did not take a record
    |   |-- RunUnfinished        time ran out; the next invocation goes on from there
    |   `-- LoadUnfinished       not every table is loaded; the next invocation tries again
    `-- Misconfigured            the set-up is wrong: a person must mend it
        |-- DefinitionError      the definition file has mistakes (all of them at once)
        |-- BundleError          the model bundle is missing, altered or does not fit
        |-- NotCompiled          a model has no compiled form that scores as it does
        |-- StateError           a stored state cannot be read with this definition
        `-- SettingsError        an environment variable is missing or wrong

Imports nothing of the project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class HeadraceError(Exception):
    """Base of every error that Headrace raises."""


class Rejected(HeadraceError):  # noqa: N818 - named for what happened to the input
    """The input is wrong; the same input will be rejected again."""


class Unavailable(HeadraceError):  # noqa: N818 - named for the state of the dependency
    """A dependency failed; the same call may succeed later."""


class Misconfigured(HeadraceError):  # noqa: N818 - named for the state of the set-up
    """The set-up is wrong and a person must mend it."""


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong with an event.

    Attributes:
        reason: The kind of fault, from a closed list (see ``events.REASONS``).
        field: The field that is at fault, or "" where it is the event as a whole.
        message: What, got, expected, for a person. Never holds a whole payload.
    """

    reason: str
    field: str
    message: str


class EventRejected(Rejected):
    """An event has faults; ``faults`` lists every one that was found."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(fault.message for fault in faults))


class RunRejected(Rejected):
    """An order for a batch run has mistakes; ``mistakes`` lists every one."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("; ".join(self.mistakes))


class LoadRejected(Rejected):
    """A file of a table cannot be loaded.

    Attributes:
        summary: What is wrong, without any value of the file: for logs.
    """

    def __init__(self, message: str, summary: str = "") -> None:
        self.summary = summary or message
        super().__init__(message)


class TooLarge(Rejected):
    """More bytes or events than the limit allows."""

    def __init__(self, what: str, got: int, limit: int) -> None:
        self.what, self.got, self.limit = what, got, limit
        super().__init__(f"{what}: got {got:,}; expected at most {limit:,}")


class StoreUnavailable(Unavailable):
    """A store did not answer in time, or refused after bounded retries."""


class StoreSlow(StoreUnavailable):
    """A store did not answer within the time that a request has for it."""


class CircuitOpen(StoreUnavailable):
    """A store was not asked, because it failed too often just now."""


class StreamUnavailable(Unavailable):
    """The stream did not take a record after bounded retries."""


class RunUnfinished(Unavailable):
    """A batch run was cut by the time limit and has noted where it goes on."""


class LoadUnfinished(Unavailable):
    """Not every table could be loaded, or not wholly; the next invocation tries again."""


class DefinitionError(Misconfigured):
    """The definition has mistakes; ``mistakes`` lists every one, each with its mend."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


class BundleError(Misconfigured):
    """The bundle is missing, altered, or does not fit the definition or the libraries."""


class NotCompiled(Misconfigured):
    """A model has no compiled form, or one that does not score as it does within tolerance."""


class StateError(Misconfigured):
    """A stored state cannot be read with this definition."""


class SettingsError(Misconfigured):
    """An environment variable is missing or malformed."""
