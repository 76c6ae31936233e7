"""The world by asyncio."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any, Generic
from weakref import WeakSet

import grpc

from leasehold import _arguments
from leasehold._io import Interrupted, Interruption, Metadata, Method, Request, Response, T
from leasehold._status import from_rpc_error
from leasehold.errors import Broken, NotSent, TimedOut

_log = logging.getLogger("leasehold")


class AsyncIo:
    """See `leasehold._io.Io`."""

    def __init__(
        self, address: str, open_channel: Callable[[], grpc.aio.Channel], background_workers: int
    ) -> None:
        self._address = address
        self._open_channel = open_channel
        self._limit = background_workers
        self._background: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed: WeakSet[grpc.aio.Channel] = WeakSet()

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def open(self) -> grpc.aio.Channel:
        return self._open_channel()

    def drop(self, channel: grpc.aio.Channel) -> None:
        self.close(channel, is_ready=False)

    def close(self, channel: grpc.aio.Channel, *, is_ready: bool) -> None:
        self._closed.add(channel)
        # Without a loop there is nothing left to close it in.
        with suppress(RuntimeError):
            self._keep(asyncio.get_running_loop().create_task(_close(channel)))

    async def connect(self, channel: grpc.aio.Channel, timeout_seconds: float) -> None:
        async def settle() -> grpc.ChannelConnectivity:
            while True:
                state = channel.get_state(try_to_connect=True)
                if state not in (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING):
                    return state
                await channel.wait_for_state_change(state)

        try:
            state = await asyncio.wait_for(settle(), timeout_seconds)
        except asyncio.TimeoutError as error:
            raise NotSent(
                f"no coordinator was reached at {self._address} within {timeout_seconds:.3f} s"
            ) from error
        except grpc.aio.UsageError as error:
            raise NotSent("the channel was closed") from error
        if state is not grpc.ChannelConnectivity.READY:
            raise NotSent(f"no coordinator was reached at {self._address}")

    async def unary(
        self,
        channel: grpc.aio.Channel,
        method: Method[Request, Response],
        request: Request,
        timeout_seconds: float,
        metadata: Metadata,
        interruption: Interruption | None = None,
    ) -> Response:
        stub = channel.unary_unary(method.path, method.encode, method.decode)
        try:
            call = stub(request, timeout=timeout_seconds, metadata=metadata)
            with nullcontext() if interruption is None else interruption.cancelling(call.cancel):
                return await call
        except asyncio.CancelledError:
            if interruption is not None and interruption.is_asked:
                raise Interrupted from None
            self._unless_closed(channel)
            raise
        except grpc.RpcError as error:
            raise from_rpc_error(error, timeout_seconds, self._address) from error
        except grpc.aio.UsageError as error:
            raise NotSent("the channel was closed") from error

    async def upload(
        self,
        channel: grpc.aio.Channel,
        method: Method[Request, Response],
        parts: Iterable[Request],
        timeout_seconds: float,
        metadata: Metadata,
    ) -> Response:
        call = channel.stream_unary(method.path, method.encode, method.decode)
        try:
            return await call(iter(parts), timeout=timeout_seconds, metadata=metadata)
        except asyncio.CancelledError:
            self._unless_closed(channel)
            raise
        except grpc.RpcError as error:
            raise from_rpc_error(error, timeout_seconds, self._address) from error
        except grpc.aio.UsageError as error:
            raise NotSent("the channel was closed") from error

    def stream(
        self,
        channel: grpc.aio.Channel,
        method: Method[Request, Response],
        request: Request,
        metadata: Metadata,
    ) -> AsyncStream[Response]:
        try:
            call = channel.unary_stream(method.path, method.encode, method.decode)(request, metadata=metadata)
            return AsyncStream(call, self._address, lambda: self._unless_closed(channel))
        except grpc.aio.UsageError as error:
            raise NotSent("the channel was closed") from error

    def _unless_closed(self, channel: grpc.aio.Channel) -> None:
        """gRPC tells the calls of a channel that is closed as it tells a caller who was cancelled."""
        if channel in self._closed:
            raise Broken("the channel was closed during the call") from None

    def lock(self) -> asyncio.Lock:
        return asyncio.Lock()

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work())

    async def settled(self, begun: asyncio.Task[None], timeout_seconds: float) -> None:
        await asyncio.wait({begun}, timeout=max(timeout_seconds, 0.0))

    def abandon(self, begun: asyncio.Task[None]) -> None:
        begun.cancel()

    async def apart(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)

    async def answer(self, field: str, function: Callable[[], Any]) -> Any:
        return await _arguments.awaited(field, function())

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]], *, is_owed: bool = False) -> bool:
        if len(self._background) >= self._limit:
            return False
        task = asyncio.get_running_loop().create_task(_insisted(work) if is_owed else work())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        self._keep(task)
        return True

    async def detached(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        give_up: Callable[[], None] | None = None,
        unheard: Callable[[T], Coroutine[Any, Any, None]] | None = None,
    ) -> T:
        loop = asyncio.get_running_loop()
        task = loop.create_task(work())
        self._keep(task)

        def done(task: asyncio.Task[T]) -> None:
            if unheard is not None and not task.cancelled() and task.exception() is None:
                self._keep(loop.create_task(unheard(task.result())))

        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if give_up is not None:
                give_up()
            task.add_done_callback(done)
            raise

    def meanwhile(
        self, step: Callable[[], Awaitable[float | None]], first_seconds: float
    ) -> AbstractAsyncContextManager[None]:
        return self._meanwhile(step, first_seconds)

    @asynccontextmanager
    async def _meanwhile(
        self, step: Callable[[], Awaitable[float | None]], first_seconds: float
    ) -> AsyncIterator[None]:
        async def steps() -> None:
            pause: float | None = first_seconds
            while pause is not None:
                await asyncio.sleep(pause)
                pause = await step()

        task = asyncio.get_running_loop().create_task(steps())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def shut_down(self) -> None:
        """Waits for what runs, for it has leases to commit."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _keep(self, task: asyncio.Task[Any]) -> None:
        """The loop itself holds tasks weakly. What fails although nobody waits for it any more is told here."""
        self._tasks.add(task)

        def done(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.debug("a task ended with an error", exc_info=error)

        task.add_done_callback(done)


async def _insisted(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A loop that ends cancels what it still runs, and waits for it."""
    try:
        await work()
    except asyncio.CancelledError:
        await work()


async def _close(channel: grpc.aio.Channel) -> None:
    await channel.close()


class AsyncStream(Generic[Response]):
    """See `leasehold._io.Stream`."""

    def __init__(self, call: Any, address: str, unless_closed: Callable[[], None]) -> None:
        self._call = call
        self._address = address
        self._unless_closed = unless_closed

    async def read(self, silence_seconds: float) -> Response | None:
        try:
            message = await asyncio.wait_for(self._call.read(), silence_seconds)
        except asyncio.TimeoutError as error:
            self._call.cancel()
            raise TimedOut(silence_seconds, self._address) from error
        except asyncio.CancelledError:
            self._unless_closed()
            raise
        except grpc.RpcError as error:
            raise from_rpc_error(error, silence_seconds, self._address) from error
        if message is grpc.aio.EOF:
            return None
        response: Response = message
        return response

    def close(self) -> None:
        self._call.cancel()
