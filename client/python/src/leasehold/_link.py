"""Connections to the coordinator, and how a bad one is replaced."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from leasehold._io import Io
from leasehold.errors import ConfigurationError, NotSent

_log = logging.getLogger("leasehold")

WAITERS_PER_LINK = 90
"""Waiting calls on one connection: well below what servers allow."""
WAITING_LINKS = 64
"""Beyond so many connections, waiters share what there is."""


class Connection:
    """A channel, and what is known of it."""

    def __init__(self, io: Io) -> None:
        self._io = io
        self.channel: Any = io.open()
        self.is_ready = False
        """Something may have been sent on it."""
        self.last_heard = io.now()
        self._connecting = io.lock()
        self._failure: str | None = None
        self._users = 0
        self._is_retired = False
        self._lock = threading.Lock()

    async def ready(self, timeout_seconds: float) -> None:
        """Waits for the connection to be made, the first time: what fails before that was surely not sent."""
        if self.is_ready:
            return
        async with self._connecting:
            # All of them learn what one has found out: they would ask for the same connection.
            if self._failure is not None:
                raise NotSent(self._failure)
            if not self.is_ready:
                try:
                    await self._io.connect(self.channel, timeout_seconds)
                except NotSent as error:
                    self._failure = str(error)
                    raise
                self.is_ready = True

    def heard(self) -> None:
        """A sign of life."""
        self.last_heard = self._io.now()

    def enter(self) -> None:
        """A call begins on it."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """A call is over."""
        with self._lock:
            self._users -= 1
            is_done = self._is_retired and self._users == 0
        if is_done:
            self._drop()

    def retire(self) -> None:
        """No more calls will begin; those in flight go on, and the last one closes it."""
        with self._lock:
            is_done = not self._is_retired and self._users == 0
            self._is_retired = True
        if is_done:
            self._drop()

    def close(self) -> None:
        """Also ends calls in flight."""
        self._io.close(self.channel, is_ready=self.is_ready)

    def _drop(self) -> None:
        channel, self.channel = self.channel, None
        if channel is not None:
            self._io.drop(channel)


class Link:
    """One connection at a time. A stock channel keeps using a black-holed connection for good; this one is replaced by
    whoever finds it bad, once."""

    def __init__(self, io: Io) -> None:
        self._io = io
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._is_closed = False
        self.load = 0
        """Calls that occupy it for long."""

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """The one in use, for one call. ``ConfigurationError`` once it is closed: else a watch would go on for good."""
        with self._lock:
            if self._is_closed:
                raise ConfigurationError("the handle was closed")
            if self._connection is None:
                self._connection = Connection(self._io)
            connection = self._connection
            connection.enter()
        try:
            yield connection
        finally:
            connection.leave()

    def replace(self, connection: Connection) -> None:
        """It is bad. Of all that report it, the first replaces it; calls in flight on it go on."""
        with self._lock:
            if self._connection is not connection:
                return
            self._connection = None
        connection.retire()
        _log.debug("connection replaced")

    def close(self) -> None:
        """Also ends calls in flight."""
        with self._lock:
            connection, self._connection = self._connection, None
            self._is_closed = True
        if connection is not None:
            connection.close()


class Lanes:
    """The connections of one handle: one for calls that are answered promptly, and others for calls that wait.

    A server allows a limited number of calls at a time on one connection. Were waiters to share it with the commit that
    they wait for, enough of them would keep it out until the last one has timed out.
    """

    def __init__(self, io: Io) -> None:
        self._io = io
        self.prompt = Link(io)
        self._waiting: list[Link] = []
        self._is_closed = False
        self._lock = threading.Lock()

    @contextmanager
    def waiting(self) -> Iterator[Link]:
        """A place for a call that waits."""
        with self._lock:
            link = self._place()
            link.load += 1
        try:
            yield link
        finally:
            with self._lock:
                link.load -= 1

    def _place(self) -> Link:
        if self._is_closed:
            return self.prompt
        for link in self._waiting:
            if link.load < WAITERS_PER_LINK:
                return link
        if len(self._waiting) < WAITING_LINKS:
            self._waiting.append(Link(self._io))
            return self._waiting[-1]
        return min(self._waiting, key=lambda link: link.load)

    def close(self) -> None:
        """Ends everything."""
        with self._lock:
            self._is_closed = True
        for link in [self.prompt, *self._waiting]:
            link.close()
