"""The world by threads that block."""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic

import grpc

from leasehold._io import Interrupted, Interruption, Metadata, Method, Request, Response, T, run_blocking
from leasehold._status import from_rpc_error
from leasehold.errors import InvalidArgument, LeaseholdError, NotSent, TimedOut

_log = logging.getLogger("leasehold")


class BlockingIo:
    """See `leasehold._io.Io`."""

    def __init__(
        self, address: str, open_channel: Callable[[], grpc.Channel], background_workers: int
    ) -> None:
        self._address = address
        self._open_channel = open_channel
        self._workers = threading.Semaphore(background_workers)
        self._running: set[threading.Thread] = set()
        self._owed: set[threading.Thread] = set()
        self._running_lock = threading.Lock()
        self._is_shut_down = False

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def open(self) -> grpc.Channel:
        return self._open_channel()

    def drop(self, channel: grpc.Channel) -> None:
        """gRPC closes a channel that nobody refers to. Were it closed here, its thread that watches the connection, which
        lasts a moment longer, would end with an error on the console."""

    def close(self, channel: grpc.Channel, *, is_ready: bool) -> None:
        if is_ready:
            channel.close()

    async def connect(self, channel: grpc.Channel, timeout_seconds: float) -> None:
        settled = threading.Event()
        verdicts: list[grpc.ChannelConnectivity] = []

        def heard(state: grpc.ChannelConnectivity) -> None:
            if state not in (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING):
                verdicts.append(state)
                settled.set()

        try:
            channel.subscribe(heard, try_to_connect=True)
            settled.wait(timeout_seconds)
            channel.unsubscribe(heard)
        except ValueError as error:
            raise NotSent("the channel was closed") from error
        if not verdicts:
            raise NotSent(f"no coordinator was reached at {self._address} within {timeout_seconds:.3f} s")
        if verdicts[0] is not grpc.ChannelConnectivity.READY:
            raise NotSent(f"no coordinator was reached at {self._address}")

    async def unary(
        self,
        channel: grpc.Channel,
        method: Method[Request, Response],
        request: Request,
        timeout_seconds: float,
        metadata: Metadata,
        interruption: Interruption | None = None,
    ) -> Response:
        call = channel.unary_unary(method.path, method.encode, method.decode)
        try:
            if interruption is None:
                return call(request, timeout=timeout_seconds, metadata=metadata)
            future = call.future(request, timeout=timeout_seconds, metadata=metadata)
            with interruption.cancelling(future.cancel):
                answer: Response = future.result()
                return answer
        except grpc.FutureCancelledError:
            raise Interrupted from None
        except (grpc.RpcError, ValueError) as error:
            raise _translated(error, timeout_seconds, self._address) from error

    async def upload(
        self,
        channel: grpc.Channel,
        method: Method[Request, Response],
        parts: Iterable[Request],
        timeout_seconds: float,
        metadata: Metadata,
    ) -> Response:
        call = channel.stream_unary(method.path, method.encode, method.decode)
        try:
            return call(iter(parts), timeout=timeout_seconds, metadata=metadata)
        except (grpc.RpcError, ValueError) as error:
            raise _translated(error, timeout_seconds, self._address) from error

    def stream(
        self,
        channel: grpc.Channel,
        method: Method[Request, Response],
        request: Request,
        metadata: Metadata,
    ) -> BlockingStream[Response]:
        try:
            call = channel.unary_stream(method.path, method.encode, method.decode)(request, metadata=metadata)
            return BlockingStream(call, self._address)
        except ValueError as error:
            raise NotSent("the channel was closed") from error

    def lock(self) -> BlockingLock:
        return BlockingLock()

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> threading.Thread:
        # A daemon: a source of tokens that hangs does not keep the process from ending.
        thread = threading.Thread(target=lambda: run_blocking(work()), name="leasehold-asking", daemon=True)
        thread.start()
        return thread

    async def settled(self, begun: threading.Thread, timeout_seconds: float) -> None:
        begun.join(max(timeout_seconds, 0.0))

    def abandon(self, begun: threading.Thread) -> None:
        """No thread can be ended by another."""

    async def apart(self, work: Callable[[], T]) -> T:
        return work()

    async def answer(self, field: str, function: Callable[[], Any]) -> Any:
        answer = function()
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise InvalidArgument(field, "must not be async, but for AsyncCoordinator")
        return answer

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]], *, is_owed: bool = False) -> bool:
        if self._is_shut_down or not self._workers.acquire(blocking=False):
            return False

        def run() -> None:
            try:
                run_blocking(work())
            except Exception:
                _log.exception("background work failed")
            finally:
                with self._running_lock:
                    self._running.discard(threading.current_thread())
                    self._owed.discard(threading.current_thread())
                self._workers.release()

        # A daemon: a regeneration that hangs does not keep the process from ending.
        thread = threading.Thread(target=run, name="leasehold-background", daemon=True)
        with self._running_lock:
            self._running.add(thread)
            if is_owed:
                self._owed.add(thread)
        try:
            thread.start()
        except RuntimeError as error:
            # There are as many as the system allows.
            _log.warning("no thread for work in the background: %s", error)
            with self._running_lock:
                self._running.discard(thread)
                self._owed.discard(thread)
            self._workers.release()
            return False
        return True

    async def detached(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        give_up: Callable[[], None] | None = None,
        unheard: Callable[[T], Coroutine[Any, Any, None]] | None = None,
    ) -> T:
        """Who blocks does not go away."""
        return await work()

    def meanwhile(
        self, step: Callable[[], Awaitable[float | None]], first_seconds: float
    ) -> AbstractAsyncContextManager[None]:
        return _Meanwhile(step, first_seconds)

    def settle(self, timeout_seconds: float) -> None:
        """Waits for so long at most for what is owed: the process ends."""
        deadline = time.monotonic() + timeout_seconds
        with self._running_lock:
            owed = list(self._owed)
        for thread in owed:
            thread.join(max(deadline - time.monotonic(), 0.0))

    async def shut_down(self) -> None:
        """Waits for what runs, for it has leases to commit."""
        self._is_shut_down = True
        with self._running_lock:
            running = list(self._running)
        for thread in running:
            if thread is not threading.current_thread():
                thread.join()


def _translated(error: grpc.RpcError | ValueError, timeout_seconds: float, address: str) -> LeaseholdError:
    """gRPC refuses calls on a closed channel by a ``ValueError``."""
    if isinstance(error, grpc.RpcError):
        return from_rpc_error(error, timeout_seconds, address)
    return NotSent(str(error))


class BlockingStream(Generic[Response]):
    """See `leasehold._io.Stream`."""

    def __init__(self, call: Any, address: str) -> None:
        self._call = call
        self._address = address

    async def read(self, silence_seconds: float) -> Response | None:
        given_up = threading.Event()

        def give_up() -> None:
            given_up.set()
            self._call.cancel()

        # gRPC's own deadline would be that of the whole stream.
        watchdog = threading.Timer(silence_seconds, give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            message: Response = next(self._call)
            return message
        except StopIteration:
            return None
        except grpc.RpcError as error:
            if given_up.is_set():
                raise TimedOut(silence_seconds, self._address) from error
            raise from_rpc_error(error, silence_seconds, self._address) from error
        finally:
            watchdog.cancel()

    def close(self) -> None:
        self._call.cancel()


class BlockingLock:
    """A lock of threads, in the dress of one of asyncio's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        self._lock.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


class _Meanwhile:
    def __init__(self, step: Callable[[], Awaitable[float | None]], first_seconds: float) -> None:
        self._step = step
        self._pause: float | None = first_seconds
        self._over = threading.Event()

    async def __aenter__(self) -> None:
        try:
            threading.Thread(target=self._run, name="leasehold-renewal", daemon=True).start()
        except RuntimeError as error:
            # There are as many as the system allows. What takes no longer than the lease does without.
            _log.warning("no thread to renew a lease: %s", error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _run(self) -> None:
        async def once() -> float | None:
            return await self._step()

        while self._pause is not None and not self._over.wait(self._pause):
            self._pause = run_blocking(once())
