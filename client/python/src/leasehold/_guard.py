"""What stands between a worker's requests and a coordinator that may be gone."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from leasehold._call import Limits
from leasehold._invalidations import Invalidations
from leasehold.errors import LeaseholdError, Reason
from leasehold.ids import ConsistencyToken
from leasehold.invalidation import Depth, Scope

if TYPE_CHECKING:
    from leasehold._core import Core

A = TypeVar("A")

FAILURES_TO_OPEN = 3
"""After so many failures in a row the coordinator is not asked for a while."""
OPEN_SECONDS = 0.25
"""Then one question is let through each time that so long has passed. With the time that it may take, less than a second:
so long after its return a coordinator is used again."""
TRIAL_SECONDS = 0.5
"""What such a question may take."""
ATTEMPT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
PATIENCE_SECONDS = 0.5
"""A question that failed is repeated for so long: it rides out a reconnection, but not an outage."""


class Unreachable(Exception):
    """The coordinator was not asked, or did not answer."""

    def __init__(self, cause: LeaseholdError | None) -> None:
        super().__init__("not asked" if cause is None else str(cause))
        self.cause = cause


class Rejected(Exception):
    """The coordinator understood, and refused; or the question could not even be put."""

    def __init__(self, cause: LeaseholdError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Admission(Enum):
    """Whether a question may be asked."""

    USUAL = 1
    TRIAL = 2
    NO = 3


class Breaker:
    """Spares requests the wait for a coordinator that does not answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._next_trial = 0.0

    def admit(self, now: float) -> Admission:
        with self._lock:
            if self._failures < FAILURES_TO_OPEN:
                return Admission.USUAL
            if now < self._next_trial:
                return Admission.NO
            self._next_trial = now + OPEN_SECONDS
            return Admission.TRIAL

    def succeeded(self) -> None:
        with self._lock:
            self._failures = 0

    def failed(self, now: float) -> None:
        with self._lock:
            self._failures += 1
            self._next_trial = now + OPEN_SECONDS


@dataclass(frozen=True)
class Terms:
    """What a question is to be asked with."""

    limits: Limits
    token: ConsistencyToken | None


class Guard:
    """Asks, with the token of this process's own invalidations, and within times that a visitor can bear."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._breaker = Breaker()
        self._invalidations = Invalidations()
        self._usual = Limits(ATTEMPT_SECONDS, ANSWER_SECONDS, patience=PATIENCE_SECONDS)
        self._trial = Limits(TRIAL_SECONDS, TRIAL_SECONDS, patience=TRIAL_SECONDS)
        # A commit carries bodies: one attempt has all the time that a visitor can bear.
        self._costly = Limits(ANSWER_SECONDS, ANSWER_SECONDS, patience=PATIENCE_SECONDS)

    async def ask(self, question: Callable[[Terms], Awaitable[A]]) -> A:
        """``Unreachable`` where there is no answer, ``Rejected`` where it is a refusal, and nothing else."""
        admission = self._breaker.admit(self._core.io.now())
        if admission is Admission.NO:
            raise Unreachable(None)
        limits = self._usual if admission is Admission.USUAL else self._trial
        return await self._asked(question, limits, counts=True)

    async def tell(self, message: Callable[[Limits], Awaitable[A]]) -> A:
        """As ``ask``, whatever became of earlier questions. A failure does not count: how long a large page is on its way says
        nothing of the coordinator."""
        return await self._asked(lambda terms: message(terms.limits), self._costly, counts=False)

    async def _asked(self, question: Callable[[Terms], Awaitable[A]], limits: Limits, *, counts: bool) -> A:
        token = self._invalidations.token
        try:
            try:
                answer = await question(Terms(limits, token))
            except LeaseholdError as error:
                if token is None or error.reason is not Reason.CONSISTENCY_TOKEN_UNKNOWN:
                    raise
                # The store is another one, or was reset: there is nothing left that the token could stand for.
                self._invalidations.forget(token)
                answer = await question(Terms(limits, None))
        except LeaseholdError as error:
            if error.is_outage:
                if counts:
                    self._breaker.failed(self._core.io.now())
                raise Unreachable(error) from error
            self._breaker.succeeded()
            raise Rejected(error) from error
        self._breaker.succeeded()
        return answer

    async def invalidate(self, scopes: tuple[Scope, ...], depth: Depth) -> ConsistencyToken:
        return await self._invalidations.make(lambda: self._core.invalidate(scopes, depth, None))
