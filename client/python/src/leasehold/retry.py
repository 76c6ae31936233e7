"""When to try again, and when an outage has had enough of us."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class RetryBudget:
    """A bucket of retries that all calls of a handle share. Without it, an outage makes every call ``max_attempts``
    calls, which keeps it going."""

    burst: int = 1000
    """What the bucket holds, and begins with."""
    per_second: float = 50.0
    """What flows in with time."""
    per_call: float = 0.2
    """What flows in with every call, whatever becomes of it."""


@dataclass(frozen=True)
class RetryPolicy:
    """How calls are repeated. Every call can be: those that change something carry a request id."""

    max_attempts: int = 100
    """At most so many attempts of one call, the first included. The default leaves it to timeout and budget."""
    initial_backoff_seconds: float = 0.025
    """The pause before the second attempt, of which a random half to whole is taken; each one after is twice as long."""
    max_backoff_seconds: float = 1.0
    """No pause is longer, unless the coordinator asks for it."""
    budget: RetryBudget = RetryBudget()
    """How many retries all calls share."""

    def backoff_seconds(self, failed: int) -> float:
        """Before jitter: the pause after so many failed attempts."""
        doublings = min(max(failed - 1, 0), 20)
        return float(min(self.initial_backoff_seconds * 2**doublings, self.max_backoff_seconds))


class Bucket:
    """The budget in use."""

    def __init__(self, limits: RetryBudget, now: float) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._tokens = float(limits.burst)
        self._at = now

    def deposit(self) -> None:
        """A call begins."""
        with self._lock:
            self._tokens = min(self._tokens + self._limits.per_call, self._limits.burst)

    def withdraw(self, now: float) -> bool:
        """Whether a retry is in the budget, which is then one less."""
        with self._lock:
            income = max(now - self._at, 0.0) * self._limits.per_second
            self._tokens = min(self._tokens + income, self._limits.burst)
            self._at = now
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True
