"""The one place that makes this package's errors of gRPC's."""

from __future__ import annotations

from types import MappingProxyType

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from leasehold import _wire
from leasehold.errors import Broken, FieldViolation, LeaseholdError, Reason, Refusal, Refused, TimedOut

ERROR_DOMAIN = "leasehold"

_LOST_ON_THE_WAY = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN}
)


def from_rpc_error(error: grpc.RpcError, timeout_seconds: float, address: str) -> LeaseholdError:
    """What gRPC's channel makes up itself, and what a peer answers, come as the same exception. The coordinator gives a
    reason with everything that it refuses; what comes without one, and is a code of the channel's, is the channel's."""
    code = error.code() if isinstance(error, (grpc.Call, grpc.aio.AioRpcError)) else grpc.StatusCode.UNKNOWN
    message = (error.details() or "") if isinstance(error, (grpc.Call, grpc.aio.AioRpcError)) else str(error)
    refusal = _refusal(code, message, _details(error))
    if refusal.reason is not Reason.UNSTATED:
        return Refused(refusal)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TimedOut(timeout_seconds, address)
    if code in _LOST_ON_THE_WAY:
        return Broken(f"the connection to {address} broke during the call: {message}")
    return Refused(refusal)


def _details(error: grpc.RpcError) -> Status:
    status = Status()
    metadata = error.trailing_metadata() if isinstance(error, (grpc.Call, grpc.aio.AioRpcError)) else None
    for name, value in metadata or ():
        if name == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                status.ParseFromString(value)
            except DecodeError:
                return Status()
    return status


def _refusal(code: grpc.StatusCode, message: str, status: Status) -> Refusal:
    reason, reason_text = Reason.UNSTATED, Reason.UNSTATED.value
    metadata: dict[str, str] = {}
    fields: tuple[FieldViolation, ...] = ()
    retry_after: float | None = None
    info, bad, retry = (
        ErrorInfo(),
        BadRequest(),
        RetryInfo(),
    )
    for detail in status.details:
        if detail.Unpack(info):
            reason, reason_text = _parse_reason(info.domain, info.reason)
            metadata = dict(info.metadata)
        elif detail.Unpack(bad):
            fields = tuple(FieldViolation(field.field, field.description) for field in bad.field_violations)
        elif detail.Unpack(retry) and retry.HasField("retry_delay"):
            retry_after = _wire.seconds_of(retry.retry_delay)
    return Refusal(code, reason, reason_text, message, MappingProxyType(metadata), fields, retry_after)


def _parse_reason(domain: str, text: str) -> tuple[Reason, str]:
    if domain != ERROR_DOMAIN:
        return Reason.UNKNOWN, f"{domain}/{text}"
    try:
        reason = Reason(text)
    except ValueError:
        return Reason.UNKNOWN, text
    return (reason, text) if reason is not Reason.UNSTATED else (Reason.UNKNOWN, text)
