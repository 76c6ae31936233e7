"""Declaring pages out of date."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from leasehold import _arguments


class Depth(Enum):
    """How deep an invalidation goes."""

    SOFT = "soft"
    """Pages stay servable as stale."""
    HARD = "hard"
    """Pages are purged."""


class _OfTexts:
    """``InvalidArgument`` for a field that is no text."""

    def __post_init__(self: Any) -> None:
        for field in fields(self):
            _arguments.text(field.name, getattr(self, field.name))


@dataclass(frozen=True)
class Everything:
    """Every entry of every tenant."""


@dataclass(frozen=True)
class WholeTenant(_OfTexts):
    """Every entry of the tenant."""

    tenant: str = ""
    """Whose. Empty: the tenant ``default``."""


@dataclass(frozen=True)
class Deployment(_OfTexts):
    """Every entry of a release."""

    deployment: str
    """The release."""
    tenant: str = ""
    """Whose. Empty: the tenant ``default``."""


@dataclass(frozen=True)
class PathPrefix(_OfTexts):
    """Every page at this path or below it, by whole segments."""

    prefix: str
    """Begins with a slash."""
    tenant: str = ""
    """Whose. Empty: the tenant ``default``."""


@dataclass(frozen=True)
class Tag(_OfTexts):
    """Every page with this tag."""

    tag: str
    """The tag."""
    tenant: str = ""
    """Whose. Empty: the tenant ``default``."""


@dataclass(frozen=True)
class Key(_OfTexts):
    """The entry of this key, in every release."""

    key: str
    """The key."""
    tenant: str = ""
    """Whose. Empty: the tenant ``default``."""


Scope = Everything | WholeTenant | Deployment | PathPrefix | Tag | Key
"""What an invalidation is about."""
