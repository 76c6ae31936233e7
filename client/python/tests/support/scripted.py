"""A coordinator that answers as a test wants, to see what is sent to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from leasehold.v1 import coordinator_pb2 as pb

Answer = Callable[[Any, grpc.ServicerContext], Message]

_REQUESTS: dict[str, type[Message]] = {
    "Lookup": pb.LookupRequest,
    "AcquireLease": pb.AcquireLeaseRequest,
    "RenewLease": pb.RenewLeaseRequest,
    "ReleaseLease": pb.ReleaseLeaseRequest,
    "CommitPointer": pb.CommitPointerRequest,
    "Invalidate": pb.InvalidateRequest,
    "ServeSidecar": pb.ServeSidecarRequest,
    "ServeObject": pb.ServeObjectRequest,
}

# Calls that are answered by a stream: here of one message.
_STREAMS = {"ServeSidecar", "ServeObject"}


class Scripted(grpc.GenericRpcHandler):
    """Answers each call by the next of its answers, and the last one for good."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self._lock = threading.Lock()
        self.by_method: dict[str, Answer] = {}
        """Answers for methods by their names, whatever the others are."""
        self.requests: list[Any] = []
        self.timeouts: list[float | None] = []
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self,))
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    def stop(self) -> None:
        self._server.stop(0).wait()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        name = handler_call_details.method.rpartition("/")[2]
        request = _REQUESTS.get(name)
        if request is None:
            return None

        def answered(request: Any, context: grpc.ServicerContext) -> Message:
            return self._answer(name, request, context)

        def streamed(request: Any, context: grpc.ServicerContext) -> Iterator[Message]:
            yield answered(request, context)

        if name in _STREAMS:
            return grpc.unary_stream_rpc_method_handler(
                streamed, request.FromString, lambda message: message.SerializeToString()
            )
        return grpc.unary_unary_rpc_method_handler(
            answered, request.FromString, lambda message: message.SerializeToString()
        )

    def _answer(self, name: str, request: Any, context: grpc.ServicerContext) -> Message:
        with self._lock:
            self.requests.append(request)
            self.timeouts.append(context.time_remaining())
            answer = self.by_method.get(name)
            if answer is None:
                answer = self._next()
        return answer(request, context)

    def _next(self) -> Answer:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def missing(_request: Any, _context: grpc.ServicerContext) -> Message:
    return pb.LookupResponse(missing=pb.MissingPage(reason=pb.MissingReason.MISSING_REASON_PURGED))


def ended(_request: Any, _context: grpc.ServicerContext) -> Message:
    return pb.AcquireLeaseResponse(ended=pb.LeaseEnded())


def refused(
    code: grpc.StatusCode,
    reason: str,
    *,
    domain: str = "leasehold",
    field: str = "",
    retry_after_seconds: float | None = None,
    **metadata: str,
) -> Answer:
    """As the coordinator says why."""
    details: list[Message] = [ErrorInfo(domain=domain, reason=reason, metadata=metadata)] if reason else []
    if field:
        details.append(
            BadRequest(field_violations=[BadRequest.FieldViolation(field=field, description="bad")])
        )
    if retry_after_seconds is not None:
        nanos = round(retry_after_seconds * 1e9)
        details.append(RetryInfo(retry_delay=Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)))
    status = Status(code=code.value[0], message="said so")
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)

    def answer(_request: Any, context: grpc.ServicerContext) -> Message:
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, "said so")
        raise AssertionError

    return answer
