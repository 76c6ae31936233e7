"""What can go wrong with a call, and what that means for its effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

import grpc


class Reason(Enum):
    """Why the coordinator refused a call: the reason of its ``google.rpc.ErrorInfo``."""

    INVALID_FIELD = "INVALID_FIELD"
    """A field is missing, malformed or over its limit: see ``Refusal.fields``."""
    TENANT_BOUNDARY = "TENANT_BOUNDARY"
    """A tenant boundary header without a declared tenant."""
    OBJECT_MISSING = "OBJECT_MISSING"
    """A commit names a stored body that is not there."""
    OBJECT_CONFLICT = "OBJECT_CONFLICT"
    """A body differs from what is stored under the same lease already: render under a new lease. Or another lease's has
    this name."""
    CONSISTENCY_TOKEN_UNKNOWN = "CONSISTENCY_TOKEN_UNKNOWN"
    """A consistency token from beyond the head of the log."""
    SIDECAR_NOT_FOUND = "SIDECAR_NOT_FOUND"
    """No such sidecar, whatever the cause."""
    OBJECT_NOT_FOUND = "OBJECT_NOT_FOUND"
    """No body of this name, whatever the cause."""
    UNAUTHENTICATED = "UNAUTHENTICATED"
    """The call comes with no token or certificate, or with one that is not accepted, or not any more."""
    PERMISSION_DENIED = "PERMISSION_DENIED"
    """The caller has no such right over this tenant."""
    PAGE_NOT_FOUND = "PAGE_NOT_FOUND"
    """No page to serve."""
    LIMIT_REACHED = "LIMIT_REACHED"
    """Over a limit of the coordinator."""
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    """The store could not be reached; surely nothing was applied."""
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    """The call may have been applied."""
    DRAINING = "DRAINING"
    """The coordinator goes down."""
    DEADLINE = "DEADLINE"
    """The deadline passed at the coordinator."""
    STORED_DATA_CORRUPT = "STORED_DATA_CORRUPT"
    """Stored bytes do not decode."""
    BODY_URL_UNSUPPORTED = "BODY_URL_UNSUPPORTED"
    """This store serves no URLs."""
    INTERNAL = "INTERNAL"
    """A defect of the coordinator."""
    UNSTATED = "UNSTATED"
    """No reason was given: the refusal is not the coordinator's own, but its framework's or a proxy's."""
    UNKNOWN = "UNKNOWN"
    """A reason that this version does not know, or of another domain: see ``Refusal.reason_text``."""


_RETRYABLE = frozenset(
    {Reason.LIMIT_REACHED, Reason.STORE_UNAVAILABLE, Reason.OUTCOME_UNKNOWN, Reason.DRAINING, Reason.DEADLINE}
)
_MAY_HAVE_BEEN_APPLIED = frozenset({Reason.OUTCOME_UNKNOWN, Reason.DEADLINE, Reason.INTERNAL})
_JUDGED_BY_CODE = frozenset({Reason.UNSTATED, Reason.UNKNOWN})
_RETRYABLE_CODES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNKNOWN,
    }
)
_WITHOUT_EFFECT_CODES = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


@dataclass(frozen=True)
class FieldViolation:
    """A field of a request that was refused."""

    field: str
    """Its dotted path in the wire's request."""
    description: str
    """What is wrong with it."""


@dataclass(frozen=True)
class Refusal:
    """How a call was refused."""

    code: grpc.StatusCode
    """The gRPC code. Branch on ``reason``, which is finer."""
    reason: Reason
    """Why."""
    reason_text: str
    """The reason as on the wire, without the prefix ``ERROR_REASON_``; of another domain, after that and a slash."""
    message: str
    """For people."""
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """More about the reason, such as the ``limit`` or the ``object``."""
    fields: tuple[FieldViolation, ...] = ()
    """What is wrong with which field of the request."""
    retry_after_seconds: float | None = None
    """When it is worth trying again."""

    @property
    def is_retryable(self) -> bool:
        """As ``LeaseholdError.is_retryable``."""
        if self.reason in _JUDGED_BY_CODE:
            return self.code in _RETRYABLE_CODES
        return self.reason in _RETRYABLE

    @property
    def may_have_been_applied(self) -> bool:
        """As ``LeaseholdError.may_have_been_applied``."""
        if self.reason in _JUDGED_BY_CODE:
            return self.code not in _WITHOUT_EFFECT_CODES
        return self.reason in _MAY_HAVE_BEEN_APPLIED


class LeaseholdError(Exception):
    """A call that got no outcome.

    The two questions that matter have answers: ``is_retryable`` and ``may_have_been_applied``. Calls retry by
    themselves; an error that says it is retryable has outlasted that.
    """

    _retryable = False
    _applied = False
    _suspects_connection = False
    """Whether another connection, maybe to another coordinator, is the better place to try again."""
    _refusal: Refusal | None = None

    @property
    def is_retryable(self) -> bool:
        """Whether the same call, with the same request id, may succeed later."""
        return self._retryable

    @property
    def may_have_been_applied(self) -> bool:
        """Whether the call, if it is one that changes something, may have done so. To learn the truth, repeat it with
        the same request id. Without meaning for calls that change nothing."""
        return self._applied

    @property
    def refusal(self) -> Refusal | None:
        """What the coordinator refused last, also when the call ended for another reason."""
        return self._refusal

    @property
    def reason(self) -> Reason | None:
        """The reason of ``refusal``."""
        return None if self._refusal is None else self._refusal.reason

    @property
    def is_outage(self) -> bool:
        """No coordinator could be asked, or none was able to answer: what a worker falls back from. In contrast to a
        coordinator that understood the call and refused it."""
        return self.is_retryable or self.reason is Reason.INTERNAL


class Refused(LeaseholdError):
    """The coordinator, or something on the way to it, refused."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"refused ({refusal.reason_text}): {refusal.message}")
        self._refusal = refusal
        self._retryable = refusal.is_retryable
        self._applied = refusal.may_have_been_applied
        self._suspects_connection = refusal.reason is Reason.DRAINING


class NoToken(Refused):
    """There is no token to present, as for a source of tokens that fails; the call was surely not sent. Its reason is
    ``UNAUTHENTICATED``, as that of a call that comes to a coordinator without one, and its refusal's metadata have
    ``source: client``."""

    def __init__(self, problem: str) -> None:
        reason = Reason.UNAUTHENTICATED
        super().__init__(
            Refusal(
                grpc.StatusCode.UNAUTHENTICATED,
                reason,
                reason.value,
                f"there is no token to present: {problem}",
                MappingProxyType({"source": "client"}),
            )
        )

    @property
    def is_outage(self) -> bool:
        """No coordinator could be asked."""
        return True


class NotSent(LeaseholdError):
    """No coordinator was reached; the call was surely not sent."""

    _retryable = True
    _suspects_connection = True


class Broken(LeaseholdError):
    """The connection broke after the call may have been sent."""

    _retryable = True
    _applied = True
    _suspects_connection = True


class TimedOut(LeaseholdError):
    """No answer in time."""

    _retryable = True
    _applied = True
    _suspects_connection = True

    def __init__(self, after_seconds: float, address: str | None = None) -> None:
        whose = "" if address is None else f" from {address}"
        super().__init__(f"no answer{whose} within {after_seconds:.3f} s")
        self.after_seconds = after_seconds
        """How long was waited."""


class DeadlineExceeded(LeaseholdError):
    """The overall timeout passed, whatever was tried."""

    _retryable = True

    def __init__(
        self, limit_seconds: float, attempts: int, in_doubt: bool, last: LeaseholdError | None
    ) -> None:
        cause = "" if last is None else f"; at last: {last}"
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        super().__init__(f"not done within {limit_seconds:.3f} s and {tries}{cause}")
        self.limit_seconds = limit_seconds
        """The overall timeout."""
        self.attempts = attempts
        """How often it was tried."""
        self.last = last
        """How the last attempt that failed did so."""
        self._applied = in_doubt
        self._refusal = None if last is None else last.refusal


class InDoubt(LeaseholdError):
    """The last attempt was surely not applied, but an earlier one may have been."""

    _retryable = True
    _applied = True

    def __init__(self, last: LeaseholdError) -> None:
        super().__init__(f"gave up; an earlier attempt may have been applied; at last: {last}")
        self.last = last
        """How the last attempt failed."""
        self._refusal = last.refusal


class ProtocolError(LeaseholdError):
    """An answer that breaks the contract; names what was missing or malformed."""

    _applied = True


class BodyTooLarge(LeaseholdError):
    """A body is larger than the caller accepts."""

    def __init__(self, limit_bytes: int) -> None:
        limit = "1 byte" if limit_bytes == 1 else f"{limit_bytes} bytes"
        super().__init__(f"the body is larger than {limit}")
        self.limit_bytes = limit_bytes
        """What the caller accepts."""


class ConfigurationError(LeaseholdError):
    """What the client was made with is of no use, such as a malformed address."""


class InvalidArgument(ConfigurationError, TypeError):
    """An argument, or what a render or view answered, is of a type that is of no use."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        """Its name."""


class RegenerationPaused(LeaseholdError):
    """The last render or fetch failed, and nobody tries again for a while; there is no copy that may be served."""

    def __init__(self, reason: str, failures: int, retry_after_seconds: float) -> None:
        failed = "failed once" if failures == 1 else f"failed {failures} times in a row"
        super().__init__(f"{failed}, next try in {retry_after_seconds:.3f} s: {reason}")
        self.failure = reason
        """What the last worker said."""
        self.failures = failures
        """Failures in a row."""
        self.retry_after_seconds = retry_after_seconds
        """When it is worth trying again."""


_SAYS_NOTHING_OF_BEFORE = frozenset({Reason.UNAUTHENTICATED, Reason.PERMISSION_DENIED})
"""Who may call is asked before what was called: an earlier attempt, with a token that held then, may have been applied."""


def after_attempts(error: LeaseholdError, in_doubt: bool) -> LeaseholdError:
    """``error``, with what is known of the attempts before it. A refusal for good is the coordinator's truthful answer
    about all attempts, unless it is of this caller."""
    is_of_this_one = error.is_retryable or error.reason in _SAYS_NOTHING_OF_BEFORE
    if in_doubt and is_of_this_one and not error.may_have_been_applied:
        return InDoubt(error)
    return error
