"""How a handle says who it is, and whom it believes."""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from leasehold import _arguments
from leasehold.errors import ConfigurationError

Path = str | os.PathLike[str]
"""Where a file is."""


@dataclass(frozen=True)
class Token:
    """A token that says who calls. Does not show in ``repr``."""

    value: str = field(repr=False)
    """What goes into a header: visible ASCII without commas."""
    expires_in_seconds: float | None = None
    """It is over after so long, counted from when it was asked for. ``None``: it holds until it is refused."""

    def __post_init__(self) -> None:
        check_token("value", self.value)
        life = self.expires_in_seconds
        _arguments.optional_seconds("expires_in_seconds", life)
        if life is not None and not 0 <= life < math.inf:
            raise ConfigurationError(f"expires_in_seconds: must be finite and not negative, and is {life}")


TokenFunction = Callable[[], Token] | Callable[[], Awaitable[Token]]
"""Answers with a token. For ``AsyncCoordinator`` it is async, and else it is not."""


@dataclass(frozen=True, kw_only=True)
class Security:
    """How a handle says who it is, and whom it believes. By default: nobody, and for ``https`` the authorities that come
    with gRPC, or those in the file that ``GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`` names.

    Certificates in files are read anew for every new channel, which takes the place of one that broke or can connect no
    more, and a token in a file every ten seconds and whenever it was refused: both may be replaced while calls go on. ``repr`` shows neither keys nor tokens. ``ConfigurationError`` for
    fields that exclude each other, or of which one is missing.
    """

    ca_pem: str | None = None
    """The authorities whose coordinators are believed, and no others: PEM."""
    ca_file: Path | None = None
    """The same, in a file."""
    client_certificate_pem: str | None = field(default=None, repr=False)
    """The certificate to present, with its chain: PEM."""
    client_certificate_file: Path | None = None
    """The same, in a file."""
    client_key_pem: str | None = field(default=None, repr=False)
    """The key of the certificate, not encrypted: PEM."""
    client_key_file: Path | None = None
    """The same, in a file."""
    server_name: str | None = None
    """The name that the coordinator's certificate must have, instead of the host in the address."""
    token: str | None = field(default=None, repr=False)
    """The token to present with every call: visible ASCII without commas."""
    token_file: Path | None = None
    """A file with the token; white space around it does not count."""
    token_by: TokenFunction | None = None
    """Asked for a token when there is none yet, before one expires (a minute before its end, or after two thirds of a
    short life), and after one was refused: by one call at a time, which waits for 10 s at most. Under threads it runs on a
    thread of its own; for ``AsyncCoordinator`` it is async."""

    def __post_init__(self) -> None:
        for name in ("ca_pem", "client_certificate_pem", "client_key_pem", "server_name"):
            if (value := getattr(self, name)) is not None:
                _arguments.text(name, value)
                _check_given(name, value)
        for name in ("ca_file", "client_certificate_file", "client_key_file", "token_file"):
            if (value := getattr(self, name)) is not None:
                _arguments.of(name, value, (str, os.PathLike))
                _check_given(name, os.fspath(value))
        if self.token is not None:
            check_token("token", self.token)
        if self.token_by is not None and not callable(self.token_by):
            _arguments.refuse("token_by", "be a function that answers with a Token", self.token_by)
        self._one_of("ca_pem", "ca_file")
        certificate = self._one_of("client_certificate_pem", "client_certificate_file")
        key = self._one_of("client_key_pem", "client_key_file")
        self._one_of("token", "token_file", "token_by")
        if (certificate is None) is not (key is None):
            given, missing = ("client_key", certificate) if key is None else ("client_certificate", key)
            raise ConfigurationError(f"{missing}: has no effect without {given}_pem or {given}_file")

    @classmethod
    def from_env(cls, variables: Mapping[str, str] = os.environ) -> Security:
        """What the environment says: ``LEASEHOLD_CA`` (a file) or ``LEASEHOLD_CA_PEM`` (the text), ``LEASEHOLD_CLIENT_CERT``
        and ``LEASEHOLD_CLIENT_KEY`` (files), ``LEASEHOLD_SERVER_NAME``, ``LEASEHOLD_AUTH_TOKEN`` or
        ``LEASEHOLD_AUTH_TOKEN_FILE``. A variable that is empty counts as none. ``ConfigurationError`` where two exclude each
        other, or one of a pair is missing."""

        def variable(name: str) -> str | None:
            return variables.get(name) or None

        for one, other in (
            ("LEASEHOLD_CA", "LEASEHOLD_CA_PEM"),
            ("LEASEHOLD_AUTH_TOKEN", "LEASEHOLD_AUTH_TOKEN_FILE"),
        ):
            if variable(one) and variable(other):
                raise ConfigurationError(f"{one} and {other} are both set: leave out one")
        certificate, key = variable("LEASEHOLD_CLIENT_CERT"), variable("LEASEHOLD_CLIENT_KEY")
        if (certificate is None) is not (key is None):
            raise ConfigurationError("LEASEHOLD_CLIENT_CERT and LEASEHOLD_CLIENT_KEY must be set together")
        if token := variable("LEASEHOLD_AUTH_TOKEN"):
            check_token("LEASEHOLD_AUTH_TOKEN", token)
        return cls(
            ca_pem=variable("LEASEHOLD_CA_PEM"),
            ca_file=variable("LEASEHOLD_CA"),
            client_certificate_file=certificate,
            client_key_file=key,
            server_name=variable("LEASEHOLD_SERVER_NAME"),
            token=token,
            token_file=variable("LEASEHOLD_AUTH_TOKEN_FILE"),
        )

    def _one_of(self, *names: str) -> str | None:
        """Which of these is given."""
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigurationError(f"{given[0]} and {given[1]} are both given: leave out one")
        return given[0] if given else None

    @property
    def _for_tls(self) -> list[str]:
        """What has no effect without TLS."""
        names = (
            "ca_pem", "ca_file", "client_certificate_pem", "client_certificate_file", "client_key_pem", "client_key_file",
            "server_name",
        )  # fmt: skip
        return [name for name in names if getattr(self, name) is not None]


def _check_given(name: str, value: str | bytes) -> None:
    if not value:
        raise ConfigurationError(f"{name}: must not be empty; None means that there is none")


def check_token(name: str, token: str) -> None:
    """Does not show it."""
    _arguments.text(name, token)
    if not token:
        raise ConfigurationError(f"{name}: must not be empty")
    if not all("!" <= character <= "~" and character != "," for character in token):
        raise ConfigurationError(f"{name}: must be visible ASCII without commas and white space")
