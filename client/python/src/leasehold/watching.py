"""Commits and invalidations as they happen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from leasehold.ids import ConsistencyToken, ResumeToken
from leasehold.invalidation import Depth, Key, Scope, Tag, WholeTenant

WatchFilter = WholeTenant | Tag | Key
"""What to watch."""


class ResyncReason(Enum):
    """Why a watch has a gap."""

    OTHER_RUN = "other run"
    """The resume token is of another coordinator, or of another run of it."""
    TOO_OLD = "too old"
    """What came after the resume token is no longer kept."""
    SLOW = "slow"
    """This watcher read too slowly."""
    OTHER = "other"
    """One that this version does not know."""


@dataclass(frozen=True)
class WatchStarted:
    """The watch stands; everything from here on comes. Also each time that it stands again."""


@dataclass(frozen=True)
class WatchResync:
    """Events were missed: look up what matters."""

    reason: ResyncReason
    """Why."""


@dataclass(frozen=True)
class PageCommitted:
    """A page became current."""

    tenant: str
    """Whose."""
    deployment: str
    """Of which release. Empty: none."""
    key: str
    """Its key."""
    generation: int
    """Its generation."""
    tags: tuple[str, ...]
    """Its tags."""
    stale: bool
    """An invalidation overtook it: it is not fresh."""


@dataclass(frozen=True)
class PagesInvalidated:
    """Pages were invalidated."""

    scopes: tuple[Scope, ...]
    """The scopes, as far as they concern what is watched."""
    depth: Depth
    """How deep."""
    at: datetime | None
    """When, by the coordinator's clock, in UTC: for people."""
    consistency_token: ConsistencyToken
    """Present it to see pages as of this invalidation."""


@dataclass(frozen=True)
class WatchProgress:
    """Nothing happened for a while."""


WatchEvent = WatchStarted | WatchResync | PageCommitted | PagesInvalidated | WatchProgress
"""Something that happened."""


@dataclass(frozen=True)
class WatchMessage:
    """Something that happened, and where the watch stands after it."""

    resume_token: ResumeToken
    """Present it to ``watch`` to go on after this message, also in another process."""
    event: WatchEvent
    """What happened."""
