"""Declaring pages out of date."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Depth(Enum):
    """How deep an invalidation goes."""

    SOFT = "soft"
    """Pages stay servable as stale."""
    HARD = "hard"
    """Pages are purged."""


@dataclass(frozen=True)
class Everything:
    """Every entry of every tenant."""


@dataclass(frozen=True)
class WholeTenant:
    """Every entry of the tenant."""

    tenant: str = ""
    """Whose. Empty: the tenant ``default``."""


@dataclass(frozen=True)
class Deployment:
    """Every entry of a release."""

    deployment: str
    """The release."""
    tenant: str = ""
    """Whose. Empty: the tenant ``default``."""


@dataclass(frozen=True)
class PathPrefix:
    """Every page at this path or below it, by whole segments."""

    prefix: str
    """Begins with a slash."""
    tenant: str = ""
    """Whose. Empty: the tenant ``default``."""


@dataclass(frozen=True)
class Tag:
    """Every page with this tag."""

    tag: str
    """The tag."""
    tenant: str = ""
    """Whose. Empty: the tenant ``default``."""


@dataclass(frozen=True)
class Key:
    """The entry of this key, in every release."""

    key: str
    """The key."""
    tenant: str = ""
    """Whose. Empty: the tenant ``default``."""


Scope = Everything | WholeTenant | Deployment | PathPrefix | Tag | Key
"""What an invalidation is about."""
