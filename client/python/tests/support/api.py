"""One suite for two interfaces: that of asyncio in the dress of the one for threads."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, cast

from leasehold import (
    AsyncBodyChunks,
    AsyncCoordinator,
    AsyncData,
    AsyncLease,
    AsyncPages,
    AsyncServedObject,
    AsyncServedPage,
    AsyncServedSidecar,
    Coordinator,
    Data,
    Granted,
    Pages,
    Settings,
)


class Api:
    """Makes handles, and closes them."""

    name = "threads"

    def coordinator(self, address: str, settings: Settings | None = None) -> Coordinator:
        return Coordinator(address, settings)

    def data(self, coordinator: Coordinator, **options: Any) -> Data:
        return Data(coordinator, **options)

    def pages(self, coordinator: Coordinator, **options: Any) -> Pages:
        return Pages(coordinator, **options)

    def function(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """One that is called in this world."""
        return function

    def function_of_the_other_world(self, function: Callable[[], Any]) -> Callable[[], Any]:
        return _asynchronous(function)

    def close(self) -> None:
        pass


class AsyncioApi(Api):
    """The same for asyncio, on a loop of its own. What is passed to be called may block: it runs on a thread."""

    name = "asyncio"

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def coordinator(self, address: str, settings: Settings | None = None) -> Coordinator:
        return cast(Coordinator, _Blocked(AsyncCoordinator(address, settings), self._loop))

    def data(self, coordinator: Coordinator, **options: Any) -> Data:
        handle: Any = coordinator
        return cast(Data, _Blocked(AsyncData(handle.inner, **options), self._loop))

    def pages(self, coordinator: Coordinator, **options: Any) -> Pages:
        handle: Any = coordinator
        return cast(Pages, _Blocked(AsyncPages(handle.inner, **options), self._loop))

    def function(self, function: Callable[[], Any]) -> Callable[[], Any]:
        return _asynchronous(function)

    def function_of_the_other_world(self, function: Callable[[], Any]) -> Callable[[], Any]:
        return function

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


def _asynchronous(function: Callable[..., Any]) -> Callable[..., Any]:
    async def on_a_thread(*args: Any) -> Any:
        return await asyncio.to_thread(function, *args)

    return on_a_thread


_WRAPPED = (AsyncLease, AsyncBodyChunks)


class _Blocked:
    """Waits for whatever has to be waited for."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if not inspect.ismethod(value):
            return value

        def called(*args: Any, **kwargs: Any) -> Any:
            return self._result(value, [self._callable(argument) for argument in args], kwargs)

        return called

    def _callable(self, argument: Any) -> Any:
        if not inspect.isfunction(argument) and not inspect.ismethod(argument):
            return argument

        return _asynchronous(argument)

    def _result(self, method: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        async def call() -> Any:
            result = method(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        return self._wrapped(self._wait(call()))

    def _wrapped(self, result: Any) -> Any:
        if isinstance(result, AsyncIterator):
            return self._iterated(result)
        if isinstance(result, _WRAPPED) or hasattr(result, "__aenter__"):
            return _Blocked(result, self._loop)
        if isinstance(result, Granted):
            return dataclasses.replace(result, lease=_Blocked(result.lease, self._loop))
        if isinstance(result, (AsyncServedObject, AsyncServedPage, AsyncServedSidecar)):
            body: Any = _Blocked(result.body, self._loop)
            return dataclasses.replace(result, body=body)
        return result

    def _iterated(self, items: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._wait(items.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            self._wait(items.aclose())

    def _wait(self, work: Any) -> Any:
        async def waited() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(waited(), self._loop).result()

    def __enter__(self) -> _Blocked:
        self._wait(self.inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait(self.inner.__aexit__(kind, error, trace))

    def __repr__(self) -> str:
        return repr(self.inner)
