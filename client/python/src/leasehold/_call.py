"""One call: its attempts, its deadlines, and what is known of its effect when it fails."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import grpc

from leasehold._io import Interruption, Io, Metadata, Method, Request, Response
from leasehold._link import Connection, Lanes, Link
from leasehold._tokens import Tokens
from leasehold.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InDoubt,
    LeaseholdError,
    NoToken,
    TimedOut,
    after_attempts,
)
from leasehold.ids import RequestId
from leasehold.retry import Bucket, RetryPolicy

_log = logging.getLogger("leasehold")
A = TypeVar("A")


@dataclass(frozen=True)
class Limits:
    """How long a call may take, in seconds."""

    attempt: float
    """One attempt."""
    overall: float
    """All of them, with the pauses."""
    wait: float = 0.0
    """What the coordinator may take on purpose, on top of both. A later attempt has what the earlier ones left of it."""
    patience: float | None = None
    """How long after its first failure a call is still repeated. ``None``: until the overall limit."""

    def waiting(self, seconds: float) -> Limits:
        return replace(self, wait=seconds)


@dataclass(frozen=True)
class Attempt:
    """One attempt of a call."""

    started: float
    """When it began, before anything was sent: what the coordinator's durations are counted from."""
    timeout: float
    wait: float
    """How long the coordinator may wait on purpose."""
    is_retry: bool
    metadata: Metadata = field(repr=False)
    """What it says of who calls."""


@dataclass(frozen=True)
class Answered(Generic[A]):
    """The answer to a call, and when the attempt that got it began."""

    answer: A
    started: float


class _Progress:
    """What is known of a call under way."""

    def __init__(self, begun: float, limits: Limits) -> None:
        self._begun = begun
        self._limits = limits
        self._failing_since: float | None = None
        self.deadline = begun + limits.overall + limits.wait
        self.attempts = 0
        self.in_doubt = False
        """One of the attempts may have been applied."""
        self.last: LeaseholdError | None = None
        """How the last attempt that failed did so."""
        self.is_renewed = False
        """One was refused for its token, and another was asked for."""

    def attempt(self, now: float, metadata: Metadata) -> Attempt:
        """The next one, or the end of the overall timeout."""
        if now >= self.deadline:
            raise self.too_late() from self.last
        self.attempts += 1
        limits = self._limits
        wait = max(limits.wait - (now - self._begun), 0.0)
        timeout = min(limits.attempt + wait, self.deadline - now)
        return Attempt(now, timeout, wait, self.attempts > 1, metadata)

    def failed(self, error: LeaseholdError, now: float) -> None:
        self.last = error
        self.in_doubt = self.in_doubt or error.may_have_been_applied
        if self._failing_since is None:
            self._failing_since = now
        if self._limits.patience is not None:
            self.deadline = min(self.deadline, self._failing_since + self._limits.patience)

    def too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(self.deadline - self._begun, self.attempts, self.in_doubt, self.last)


class Calls:
    """What all calls of a handle share."""

    def __init__(
        self,
        io: Io,
        tokens: Tokens,
        limits: Limits,
        connect_timeout: float,
        retry: RetryPolicy,
        source: random.Random,
    ) -> None:
        self.io = io
        self._tokens = tokens
        self.limits = limits
        self.lanes = Lanes(io)
        self._connect_timeout = connect_timeout
        self.retry = retry
        self._retries = Bucket(retry.budget, io.now())
        self._random = source

    def new_request_id(self) -> RequestId:
        return RequestId(self._random.randbytes(16))

    def jittered(self, seconds: float) -> float:
        """A random part, at least half: callers that failed together do not come back together."""
        return seconds * (0.5 + self._random.random() / 2)

    async def unary(
        self,
        link: Link,
        limits: Limits,
        method: Method[Request, Response],
        message: Callable[[Attempt], Request],
        interruption: Interruption | None = None,
    ) -> Answered[Response]:
        """A call with one answer. ``message`` makes the request of each attempt, always with the same request id."""

        async def send(connection: Connection, attempt: Attempt) -> Response:
            request = message(attempt)
            return await self.io.unary(
                connection.channel, method, request, attempt.timeout, attempt.metadata, interruption
            )

        return await self.attempts(link, limits, send)

    async def attempts(
        self, link: Link, limits: Limits, send: Callable[[Connection, Attempt], Awaitable[A]]
    ) -> Answered[A]:
        """Sends until there is an answer, or an error that says why there is none."""
        self._retries.deposit()
        progress = _Progress(self.io.now(), limits)
        try:
            while True:
                metadata = await self._present(progress)
                attempt = progress.attempt(self.io.now(), metadata)
                try:
                    return Answered(await self._attempt(link, attempt, send), attempt.started)
                except LeaseholdError as error:
                    if not progress.is_renewed and self.renews(error, metadata):
                        progress.is_renewed = True
                        continue
                    progress.failed(error, self.io.now())
                await self.io.sleep(self._pause(progress))
        finally:
            # It knows of the connection by its traceback, which would keep a connection that was replaced from being closed.
            progress.last = None

    async def present(self, timeout: float) -> Metadata:
        """What an attempt says of who calls. It is asked for before the attempt, which then has its time to itself."""
        return await self._tokens.present(timeout)

    def renews(self, error: LeaseholdError, metadata: Metadata) -> bool:
        """Whether what failed, having said so of who calls, may be tried again at once and say another."""
        refusal = error.refusal
        if (
            refusal is None
            or refusal.code is not grpc.StatusCode.UNAUTHENTICATED
            or isinstance(error, NoToken)
        ):
            return False
        self._tokens.refused(metadata)
        return self._tokens.may_renew

    async def _present(self, progress: _Progress) -> Metadata:
        try:
            return await self.present(progress.deadline - self.io.now())
        except NoToken as error:
            raise after_attempts(error, progress.in_doubt) from error.__cause__

    def _pause(self, progress: _Progress) -> float:
        """How long to wait after a failed attempt; or gives the call up."""
        last, now = progress.last, self.io.now()
        try:
            assert last is not None
            if isinstance(last, ConfigurationError) and progress.in_doubt:
                # Of what was closed meanwhile, in contrast to what a coordinator refused.
                raise InDoubt(last) from last
            if not last.is_retryable:
                raise after_attempts(last, progress.in_doubt)
            if now >= progress.deadline:
                raise progress.too_late() from last
            if progress.attempts >= self.retry.max_attempts or not self._retries.withdraw(now):
                raise after_attempts(last, progress.in_doubt)
            pause = self.jittered(self.retry.backoff_seconds(progress.attempts))
            if (refusal := last.refusal) is not None and refusal.retry_after_seconds is not None:
                # A little later than asked: those that were refused together should not come back together.
                pause += refusal.retry_after_seconds
            if pause >= progress.deadline - now:
                raise progress.too_late() from last
            _log.debug(
                "call is retried: attempt=%d pause_ms=%d error=%s", progress.attempts, pause * 1000, last
            )
            return pause
        finally:
            del last

    async def _attempt(
        self, link: Link, attempt: Attempt, send: Callable[[Connection, Attempt], Awaitable[A]]
    ) -> A:
        with link.connection() as connection:
            try:
                await connection.ready(min(self._connect_timeout, attempt.timeout))
                answer = await send(connection, attempt)
            except LeaseholdError as error:
                if error.refusal is not None:
                    connection.heard()
                # A connection on which others were answered meanwhile is slow at worst.
                is_alive = isinstance(error, TimedOut) and connection.last_heard > attempt.started
                if error._suspects_connection and not is_alive:
                    link.replace(connection)
                raise
            connection.heard()
            return answer
