"""How pages are to be kept and served."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from leasehold import _arguments
from leasehold.errors import ConfigurationError


class OnContention(Enum):
    """What a request does while another worker renders its page."""

    WAIT = "wait"
    """Waits for that page; beyond the policy's ``wait_seconds`` serves the previous one, or renders one that is not kept."""
    SERVE_STALE = "serve stale"
    """Serves the previous page; where there is none, or it is too old, does as ``WAIT``."""


class OnFailure(Enum):
    """What a request does when its page cannot be rendered."""

    SERVE_STALE = "serve stale"
    """Serves the previous page, within the policy's ``stale_if_error_seconds``; where there is none, does as ``ERROR``."""
    ERROR = "error"
    """Passes the error on."""


@dataclass(frozen=True)
class Policy:
    """How a page is kept and served. Make one by ``blocking`` or ``stale_while_revalidate``."""

    revalidate_seconds: float
    """A page is fresh for so long after its render began, unless it is invalidated."""
    window_seconds: float | None
    """For so long after that it is served stale at once and regenerated in the background. ``None``: never; whoever asks
    for a page that is not fresh waits for the next one."""
    on_contention: OnContention = OnContention.WAIT
    """What a request does while another worker renders its page."""
    wait_seconds: float = 30.0
    """How long it waits at most. The coordinator's limit (default 60) holds as well."""
    on_failure: OnFailure = OnFailure.SERVE_STALE
    """What a request does when its page cannot be rendered."""
    stale_if_error_seconds: float | None = None
    """How long after ``revalidate_seconds`` a page is served when its regeneration fails. ``None``: as long again as
    ``revalidate_seconds``."""
    lease_ttl_seconds: float = 10.0
    """A worker that dies while it renders delays others by no more: 0.1 to the coordinator's limit (default 300). Leases
    are renewed while their render goes on."""

    def __post_init__(self) -> None:
        for field in ("revalidate_seconds", "wait_seconds", "lease_ttl_seconds"):
            _arguments.seconds(field, getattr(self, field))
        for field in ("window_seconds", "stale_if_error_seconds"):
            _arguments.optional_seconds(field, getattr(self, field))
        _arguments.of("on_contention", self.on_contention, OnContention)
        _arguments.of("on_failure", self.on_failure, OnFailure)
        spans = [self.revalidate_seconds, self.window_seconds, self.wait_seconds, self.stale_if_error_seconds]
        if any(span is not None and not 0 <= span < float("inf") for span in spans):
            raise ConfigurationError(f"a policy's spans of time must be finite and not negative: {self}")
        if not 0.1 <= self.lease_ttl_seconds < float("inf"):
            raise ConfigurationError(f"a lease lasts 0.1 s at least, and not {self.lease_ttl_seconds}")

    @classmethod
    def blocking(
        cls,
        revalidate_seconds: float,
        *,
        on_contention: OnContention = OnContention.WAIT,
        wait_seconds: float = 30.0,
        on_failure: OnFailure = OnFailure.SERVE_STALE,
        stale_if_error_seconds: float | None = None,
        lease_ttl_seconds: float = 10.0,
    ) -> Policy:
        """Whoever asks for a page that is not fresh waits for the next one. ``ConfigurationError`` for a span of time
        that is none."""
        return cls(
            revalidate_seconds,
            None,
            on_contention,
            wait_seconds,
            on_failure,
            stale_if_error_seconds,
            lease_ttl_seconds,
        )

    @classmethod
    def stale_while_revalidate(
        cls,
        revalidate_seconds: float,
        window_seconds: float,
        *,
        on_contention: OnContention = OnContention.WAIT,
        wait_seconds: float = 30.0,
        on_failure: OnFailure = OnFailure.SERVE_STALE,
        stale_if_error_seconds: float | None = None,
        lease_ttl_seconds: float = 10.0,
    ) -> Policy:
        """Within the window, a page that is not fresh is served at once, and one request's worker regenerates it in the
        background; beyond it as with ``blocking``. ``ConfigurationError`` for a span of time that is none."""
        return cls(
            revalidate_seconds,
            window_seconds,
            on_contention,
            wait_seconds,
            on_failure,
            stale_if_error_seconds,
            lease_ttl_seconds,
        )

    @property
    def error_window_seconds(self) -> float:
        """``stale_if_error_seconds``, or what ``None`` stands for."""
        return self.revalidate_seconds if self.stale_if_error_seconds is None else self.stale_if_error_seconds
