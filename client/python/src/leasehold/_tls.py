"""Channels to an address: plain, or by TLS with certificates as their files have them."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from leasehold import _arguments
from leasehold.errors import ConfigurationError
from leasehold.security import Path, Security
from leasehold.settings import ChannelOptions

_log = logging.getLogger("leasehold")
C = TypeVar("C")

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----.+?-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----", re.DOTALL
)


@dataclass(frozen=True)
class Target:
    """An address."""

    name: str
    """As gRPC names it."""
    is_encrypted: bool
    """By TLS."""


def target(address: str) -> Target:
    """``ConfigurationError`` for what is no address."""
    _arguments.text("address", address)
    scheme, _, rest = address.partition("://")
    rest = rest.rstrip("/")
    host, _, port = rest.rpartition(":")
    is_known = scheme.lower() in ("http", "https")
    if not is_known or not host or not port.isdigit() or "/" in rest or "@" in rest:
        # What is before an @ may be a password.
        shown = address if "@" not in address else f"{scheme}://...@{rest.rpartition('@')[2]}"
        raise ConfigurationError(
            f"address {shown!r}: must be of the form http://host:port or https://host:port"
        )
    return Target(rest, scheme.lower() == "https")


def opener(
    address: str,
    security: Security,
    options: ChannelOptions,
    own: Callable[[str, ChannelOptions], C] | None,
    plain: Callable[[str, ChannelOptions], C],
    secure: Callable[[str, grpc.ChannelCredentials, ChannelOptions], C],
) -> Callable[[], C]:
    """Makes channels: by ``own``, where there is one. ``ConfigurationError`` for settings that cannot be used, or would have
    no effect: somebody who sets them believes that they guard something."""
    to = target(address)
    for name in security._for_tls:
        if own is not None:
            raise ConfigurationError(f"security.{name}: has no effect where `connect` makes the channels")
        if not to.is_encrypted:
            raise ConfigurationError(
                f"security.{name}: has no effect without TLS; address {address!r} must begin with https://"
            )
    if own is not None:
        return lambda: own(to.name, options)
    if not to.is_encrypted:
        return lambda: plain(to.name, options)
    if security.server_name is not None:
        options = [*options, ("grpc.ssl_target_name_override", security.server_name)]
    certificates = Certificates(security)
    return lambda: secure(to.name, certificates.latest(), options)


class Certificates:
    """Those of a handle, as its files have them."""

    def __init__(self, security: Security) -> None:
        self._security = security
        self._last = self._read()

    def latest(self) -> grpc.ChannelCredentials:
        """For a new channel."""
        try:
            self._last = self._read()
        except ConfigurationError as error:
            # In the middle of being replaced, perhaps: those of before are as good as before.
            _log.warning("certificates cannot be read anew, and those of before are used: %s", error)
        return self._last

    def _read(self) -> grpc.ChannelCredentials:
        # gRPC would take anything, and say of a channel that can never connect that nobody is there.
        security = self._security
        ca = _content("ca", security.ca_pem, security.ca_file)
        if ca is not None:
            ca = _certificates("ca", ca, security.ca_file)
        chain = _content(
            "client_certificate", security.client_certificate_pem, security.client_certificate_file
        )
        key = _content("client_key", security.client_key_pem, security.client_key_file)
        if chain is not None and key is not None:
            chain = _certificates("client_certificate", chain, security.client_certificate_file)
            key = _key(key, security.client_key_file)
            _check_pair(security)
        return grpc.ssl_channel_credentials(ca, key, chain)


def _content(what: str, text: str | None, file: Path | None) -> bytes | None:
    if text is not None:
        return text.encode()
    if file is None:
        return None
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError as error:
        raise ConfigurationError(f"security.{what}_file: cannot read {file}: {error.strerror}") from error


def _certificates(what: str, content: bytes, file: Path | None) -> bytes:
    """Its certificates, without what people write around them."""
    found = b"\n".join(_CERTIFICATE.findall(content)) + b"\n"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=found.decode("ascii"))
    except (ValueError, ssl.SSLError):
        raise ConfigurationError(
            f"{_name(what, file)}: holds no certificate that can be read (PEM)"
        ) from None
    return found


def _key(content: bytes, file: Path | None) -> bytes:
    found = _KEY.search(content)
    if found is None:
        raise ConfigurationError(f"{_name('client_key', file)}: holds no private key (PEM)")
    if b"ENCRYPTED" in found.group():
        raise ConfigurationError(f"{_name('client_key', file)}: is encrypted; it must not be")
    return found.group() + b"\n"


def _check_pair(security: Security) -> None:
    """That the key is the certificate's, as far as they are files: OpenSSL reads these from nowhere else."""
    certificate, key = security.client_certificate_file, security.client_key_file
    if certificate is None or key is None:
        return
    try:
        # A password is never asked for: whoever starts the process may have a terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"security.client_key_file: {key} is not the key of the certificate in {certificate}"
        ) from error


def _name(what: str, file: Path | None) -> str:
    return f"security.{what}_pem" if file is None else f"security.{what}_file: {file}"
