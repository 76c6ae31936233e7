"""Ids that this package makes, and opaque tokens that the coordinator makes."""

from __future__ import annotations

from typing import NewType

ConsistencyToken = NewType("ConsistencyToken", str)
"""What ``invalidate`` answers: whoever presents it with a lookup or an acquire sees that invalidation at once, on any
coordinator. Opaque; not a secret."""

ResumeToken = NewType("ResumeToken", str)
"""Where a watch stands, to go on from there. Opaque; not a secret."""


class _Secret:
    """A value that does not show in ``repr`` or ``str``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(..)"

    __str__ = __repr__


class RequestId(_Secret):
    """The identity of one intent: 16 random bytes, new for every intent, the same for every repetition of its call.

    That of an acquire becomes the token of the lease: whoever knows it can commit. It is therefore a secret, and shows
    in neither ``repr`` nor ``str``.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        """One that was made before, by ``new_request_id`` or elsewhere. ``ValueError`` unless it has 16 bytes."""
        if len(value) != 16:
            raise ValueError("a request id has 16 bytes")
        self._value = bytes(value)

    def expose(self) -> bytes:
        """The secret itself, to hand it to another process. Keep it out of logs."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RequestId) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


class SidecarToken(_Secret):
    """Names a hydration sidecar in the URL that its page's HTML holds. Whoever knows it can read the sidecar, if the
    page's entry resolves for them too: it does not show in ``repr``."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """As it was received, for instance from a URL."""
        self._value = value

    def expose(self) -> str:
        """As it is to be passed on."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SidecarToken) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)
