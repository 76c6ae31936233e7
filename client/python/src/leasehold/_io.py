"""What the client needs of the world, so that its rules are written once for threads and for asyncio.

Everything that may take time is a coroutine. Under asyncio these suspend; under threads they block, and never suspend,
so that `run_blocking` runs a coroutine to its end on the calling thread.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from leasehold.v1 import coordinator_pb2 as pb

T = TypeVar("T")
Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Received = TypeVar("Received", covariant=True)


Metadata = tuple[tuple[str, str], ...]
"""What goes along with a call."""


@dataclass(frozen=True)
class Method(Generic[Request, Response]):
    """One of the contract's methods."""

    path: str
    encode: Callable[[Request], bytes]
    decode: Callable[[bytes], Response]


def _method(name: str, request: type[Request], response: type[Response]) -> Method[Request, Response]:
    encode: Callable[[Request], bytes] = request.SerializeToString
    decode: Callable[[bytes], Response] = response.FromString
    return Method(f"/leasehold.v1.CoordinatorService/{name}", encode, decode)


LOOKUP = _method("Lookup", pb.LookupRequest, pb.LookupResponse)
ACQUIRE = _method("AcquireLease", pb.AcquireLeaseRequest, pb.AcquireLeaseResponse)
RENEW = _method("RenewLease", pb.RenewLeaseRequest, pb.RenewLeaseResponse)
RELEASE = _method("ReleaseLease", pb.ReleaseLeaseRequest, pb.ReleaseLeaseResponse)
COMMIT = _method("CommitPointer", pb.CommitPointerRequest, pb.CommitPointerResponse)
UPLOAD = _method("UploadBody", pb.UploadBodyRequest, pb.UploadBodyResponse)
SERVE_SIDECAR = _method("ServeSidecar", pb.ServeSidecarRequest, pb.ServeSidecarResponse)
SERVE_OBJECT = _method("ServeObject", pb.ServeObjectRequest, pb.ServeObjectResponse)
SERVE_PAGE = _method("ServePage", pb.ServePageRequest, pb.ServePageResponse)
INVALIDATE = _method("Invalidate", pb.InvalidateRequest, pb.InvalidateResponse)
WATCH = _method("Watch", pb.WatchRequest, pb.WatchResponse)


class Interrupted(Exception):
    """A call was given up. It may have been applied."""


class Interruption:
    """By this a call is given up, from anywhere, before it begins or while it goes on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancel: Callable[[], object] | None = None
        self.is_asked = False
        """Whether its call is to be given up."""

    def interrupt(self) -> None:
        """Gives the call up."""
        with self._lock:
            self.is_asked = True
            cancel = self._cancel
        if cancel is not None:
            cancel()

    @contextmanager
    def cancelling(self, cancel: Callable[[], object]) -> Iterator[None]:
        """While the block waits for the call that ``cancel`` ends."""
        with self._lock:
            self._cancel = cancel
            is_asked = self.is_asked
        try:
            if is_asked:
                cancel()
            yield
        finally:
            with self._lock:
                self._cancel = None


class Stream(Protocol[Received]):
    """An answer in many messages."""

    async def read(self, silence_seconds: float) -> Received | None:
        """The next one; ``None`` at the end. Ends with ``TimedOut`` after so long without any."""
        ...

    def close(self) -> None:
        """Nobody reads on."""
        ...


class Io(Protocol):
    """The world. Channels are opaque to whoever holds them."""

    def now(self) -> float:
        """Seconds of a clock that only goes forward."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def open(self) -> Any:
        """A channel that connects when it is first used."""
        ...

    def drop(self, channel: Any) -> None:
        """Nobody uses it any more."""
        ...

    def close(self, channel: Any, *, is_ready: bool) -> None:
        """Closes it, and ends calls in flight, some time soon. Whether it ever was connected matters to some."""
        ...

    async def connect(self, channel: Any, timeout_seconds: float) -> None:
        """Waits until something may be sent. ``NotSent`` where that fails."""
        ...

    async def unary(
        self,
        channel: Any,
        method: Method[Request, Response],
        request: Request,
        timeout_seconds: float,
        metadata: Metadata,
        interruption: Interruption | None = None,
    ) -> Response:
        """``Interrupted`` once it is given up, unless the answer is there."""
        ...

    async def upload(
        self,
        channel: Any,
        method: Method[Request, Response],
        parts: Iterable[Request],
        timeout_seconds: float,
        metadata: Metadata,
    ) -> Response: ...

    def stream(
        self, channel: Any, method: Method[Request, Response], request: Request, metadata: Metadata
    ) -> Stream[Response]: ...

    def lock(self) -> AbstractAsyncContextManager[Any]:
        """One at a time."""
        ...

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Any:
        """Runs it, whoever goes away meanwhile. It raises nothing. ``RuntimeError`` where the system is out of threads."""
        ...

    async def settled(self, begun: Any, timeout_seconds: float) -> None:
        """Waits for its end, and for so long at most."""
        ...

    def abandon(self, begun: Any) -> None:
        """Nobody waits for it any more."""
        ...

    async def apart(self, work: Callable[[], T]) -> T:
        """Runs what blocks where it holds nobody up."""
        ...

    async def answer(self, field: str, function: Callable[[], Any]) -> Any:
        """What a function answers that is of the same world: async for asyncio, and else not. ``InvalidArgument`` where it
        is of the other."""
        ...

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]], *, is_owed: bool = False) -> bool:
        """Runs it in the background. ``False``: there is too much of that already. What is owed, such as a lease that is
        given back, is done also where the program ends meanwhile and has closed nothing; to do it twice must be harmless."""
        ...

    async def detached(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        give_up: Callable[[], None] | None = None,
        unheard: Callable[[T], Coroutine[Any, Any, None]] | None = None,
    ) -> T:
        """Runs it to its end, also when whoever waits for it goes away, and answers what it did. Nobody being there any more,
        ``give_up`` is called at once, and ``unheard`` with the answer."""
        ...

    def meanwhile(
        self, step: Callable[[], Awaitable[float | None]], first_seconds: float
    ) -> AbstractAsyncContextManager[None]:
        """While the block runs: first after so long, and then after as long as each step says, until one says ``None``."""
        ...

    async def shut_down(self) -> None:
        """Ends what runs in the background."""
        ...


def run_blocking(work: Awaitable[T]) -> T:
    """Runs a coroutine that never suspends."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise RuntimeError("suspended where nothing may suspend")


def blocking_iterator(items: AsyncIterator[T]) -> Iterator[T]:
    """The items of an async generator that never suspends."""
    try:
        while True:
            try:
                yield run_blocking(items.__anext__())
            except StopAsyncIteration:
                return
    finally:
        if isinstance(items, AsyncGenerator):
            run_blocking(items.aclose())
