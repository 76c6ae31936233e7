"""How a handle is configured."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from importlib import resources

from leasehold import _arguments
from leasehold._call import Calls, Limits
from leasehold._core import Core
from leasehold._io import Io
from leasehold._tokens import Tokens
from leasehold.errors import ConfigurationError
from leasehold.retry import RetryPolicy
from leasehold.security import Security

DEFAULT_ADDRESS = "http://127.0.0.1:7420"
"""Where a coordinator on this machine listens by default."""

SERVICE_CONFIG = resources.files("leasehold").joinpath("service_config.json").read_text(encoding="utf-8")
"""gRPC's service config of the contract, as JSON, the same for every language. Handles give it to their channels, where
its timeouts count; its retries are made by the handle itself, which also repeats an acquire, replaces connections and
judges by the coordinator's reasons."""

ChannelOptions = list[tuple[str, str | int]]
"""What a channel is made with."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a handle behaves. Every field has a default that suits a render worker."""

    owner: str = "leasehold-python"
    """The name that leases are acquired under, for people: a worker's, 1 to 256 bytes."""
    attempt_timeout_seconds: float = 5.0
    """How long one attempt of a call may take; where the call waits, on top of that."""
    overall_timeout_seconds: float = 20.0
    """How long a call may take with all its attempts; where it waits, on top of that."""
    connect_timeout_seconds: float = 2.0
    """How long a connection may take to be made."""
    keepalive_interval_seconds: float = 10.0
    """After so long without a sign of life the coordinator is asked for one."""
    keepalive_timeout_seconds: float = 5.0
    """A coordinator that was asked and does not answer for so long is given up, with the connection to it."""
    max_received_bytes: int = 4 << 20
    """The largest message to receive: like the coordinator's."""
    max_sent_bytes: int = 4 << 20
    """The largest message to send: like the coordinator's."""
    inline_limit_bytes: int = 3 << 20
    """HTML and sidecar of more than this together are uploaded ahead of their commit."""
    retry: RetryPolicy = RetryPolicy()
    """How calls are repeated."""
    security: Security = Security()
    """How it says who it is, and whom it believes."""
    background_workers: int = 8
    """At most so many regenerations in the background at a time; a stale copy that finds no place is refreshed by a
    later request. Under threads, each is one."""
    random: random.Random = field(default_factory=random.SystemRandom, repr=False)
    """Where request ids and jitter come from: of a seeded one, two runs against one store would be one."""

    def __post_init__(self) -> None:
        _arguments.of("security", self.security, Security)
        spans = {
            "attempt_timeout_seconds": self.attempt_timeout_seconds,
            "overall_timeout_seconds": self.overall_timeout_seconds,
            "connect_timeout_seconds": self.connect_timeout_seconds,
            "keepalive_interval_seconds": self.keepalive_interval_seconds,
            "keepalive_timeout_seconds": self.keepalive_timeout_seconds,
        }
        for name, seconds in spans.items():
            _arguments.seconds(name, seconds)
            if not seconds > 0:
                raise ConfigurationError(f"{name} must be more than zero, and is {seconds}")

    def channel_options(self) -> ChannelOptions:
        """What every channel is made with: keepalive, message limits, the service config."""
        return [
            ("grpc.keepalive_time_ms", round(self.keepalive_interval_seconds * 1000)),
            ("grpc.keepalive_timeout_ms", round(self.keepalive_timeout_seconds * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.max_receive_message_length", self.max_received_bytes),
            ("grpc.max_send_message_length", self.max_sent_bytes),
            ("grpc.service_config", SERVICE_CONFIG),
            # Repeated by the handle. A channel that repeats by itself would do so on the connection that failed.
            ("grpc.enable_retries", 0),
            # Channels to one address share connections otherwise: a new one would get the very connection that is bad.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ]

    def _core(self, io: Io) -> Core:
        limits = Limits(self.attempt_timeout_seconds, self.overall_timeout_seconds)
        tokens = Tokens(self.security, io)
        calls = Calls(io, tokens, limits, self.connect_timeout_seconds, self.retry, self.random)
        return Core(calls, self.owner, self.inline_limit_bytes)
