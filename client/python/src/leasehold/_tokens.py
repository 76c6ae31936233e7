"""The token that all calls of a handle present."""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass, field, replace
from typing import Any

from leasehold import _arguments
from leasehold._io import Io, Metadata
from leasehold.errors import ConfigurationError, InvalidArgument, NoToken
from leasehold.security import Path, Security, Token, check_token

_log = logging.getLogger("leasehold")

RENEWED_BEFORE_SECONDS = 60.0
"""A token that expires is asked for anew so long before its end; one that lives less than three times this, after two
thirds of its life."""
FILE_READ_SECONDS = 10.0
"""A file of a token is read anew so often."""
TOKEN_SECONDS = 10.0
"""How long getting a token may take."""
PAUSE_SECONDS = 5.0
"""A source that failed is left alone for so long while the token of before lasts."""
FILE_LIMIT_BYTES = 64 << 10
"""No token is longer: headers are not."""


@dataclass(frozen=True)
class _Kept:
    metadata: Metadata = field(repr=False)
    renewed_at: float = math.inf
    """When another one is asked for."""
    ends_at: float = math.inf
    """When it is over."""


class _Asking:
    """The source is asked, for all calls that need a token meanwhile."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.pending: Any = None
        self.kept: _Kept | None = None
        self.problem: Exception | None = None


class Tokens:
    """The token in use, and where another one comes from."""

    def __init__(self, security: Security, io: Io) -> None:
        self._io = io
        self._file = security.token_file
        self._function = security.token_by
        self._lock = threading.Lock()
        self._asking: _Asking | None = None
        self._kept = None if security.token is None else _Kept(_metadata(security.token))

    @property
    def may_renew(self) -> bool:
        """Whether another try may present another token."""
        return self._file is not None or self._function is not None

    async def present(self, timeout_seconds: float) -> Metadata:
        """What a call says of who makes it. ``NoToken`` where that cannot be had."""
        now = self._io.now()
        with self._lock:
            kept = self._kept
            if kept is not None and now < kept.renewed_at:
                return kept.metadata
            if not self.may_renew:
                return ()
            asking = self._asking
            # One that never answers, or began before the process was frozen, is not waited for again.
            if asking is None or now - asking.began >= TOKEN_SECONDS:
                if asking is not None:
                    self._io.abandon(asking.pending)
                asking = self._begin(now)
            if kept is not None and now < kept.ends_at:
                return kept.metadata
        patience = min(asking.began + TOKEN_SECONDS - now, timeout_seconds)
        await self._io.settled(asking.pending, patience)
        if asking.kept is not None:
            return asking.kept.metadata
        if asking.problem is not None:
            raise NoToken(str(asking.problem)) from asking.problem
        raise NoToken(f"its source did not answer within {patience:.3f} s")

    def refused(self, metadata: Metadata) -> None:
        """Forgets the token that was refused, unless another one has taken its place."""
        with self._lock:
            if self.may_renew and self._kept is not None and self._kept.metadata == metadata:
                self._kept = None

    def _begin(self, now: float) -> _Asking:
        asking = _Asking(now)
        try:
            asking.pending = self._io.begin(lambda: self._ask(asking))
        except RuntimeError as error:
            # There are as many threads as the system allows.
            raise NoToken("there is no thread to ask its source on") from error
        self._asking = asking
        return asking

    async def _ask(self, asking: _Asking) -> None:
        kept, problem = None, None
        try:
            kept = self._lasting(await self._answer(), asking.began)
        except Exception as error:
            problem = error
        finally:
            with self._lock:
                asking.kept, asking.problem = kept, problem
                if self._asking is asking:
                    self._asking = None
                    self._settle(kept, problem)

    def _settle(self, kept: _Kept | None, problem: Exception | None) -> None:
        now, before = self._io.now(), self._kept
        if kept is not None:
            self._kept = kept
        elif before is not None and now < before.ends_at:
            self._kept = replace(before, renewed_at=now + PAUSE_SECONDS)
            _log.warning("no new token, and that of before is used while it lasts: %s", problem)

    async def _answer(self) -> Token:
        if self._file is not None:
            file = self._file
            return await self._io.apart(lambda: _read(file))
        assert self._function is not None
        try:
            token = await self._io.answer("security.token_by", self._function)
        except InvalidArgument:
            raise
        except Exception as error:
            raise ConfigurationError(f"its source failed: {type(error).__name__}: {error}") from error
        if not isinstance(token, Token):
            _arguments.refuse("security.token_by", "answer with a Token", token)
        return token

    def _lasting(self, token: Token, asked: float) -> _Kept:
        metadata, life = _metadata(token.value), token.expires_in_seconds
        if self._file is not None:
            # Nobody knows whether that of before still holds.
            return _Kept(metadata, asked + FILE_READ_SECONDS, asked + FILE_READ_SECONDS)
        if life is None:
            return _Kept(metadata)
        return _Kept(metadata, asked + max(life - RENEWED_BEFORE_SECONDS, life * 2 / 3), asked + life)


def _metadata(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def _read(file: Path) -> Token:
    try:
        with open(file, "rb") as opened:
            content = opened.read(FILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"security.token_file: cannot read {file}: {error.strerror}") from error
    if len(content) > FILE_LIMIT_BYTES:
        raise ConfigurationError(f"security.token_file: {file} has more than {FILE_LIMIT_BYTES} bytes")
    # What is not ASCII is refused as such: an error of decoding would have it in its arguments.
    token = content.decode("ascii", errors="replace").strip()
    check_token(f"security.token_file: {file}", token)
    return Token(token)
