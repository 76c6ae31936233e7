"""TLS: whom a handle believes, and who it is by its certificate. Real coordinators."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.authority import Authority, Certified
from support.files import write
from support.proxy import Proxy
from support.server import Server

from leasehold import (
    AsyncCoordinator,
    ConfigurationError,
    Coordinator,
    DeadlineExceeded,
    EntryRef,
    NotSent,
    Reason,
    Refused,
    Security,
    Settings,
)

PAGE = EntryRef("page", tenant="acme")
RENDERER = "URI:spiffe://shop/acme/render"
TOKEN = "the-token-of-the-renderer-of-acme"
POLICY = """
[[rule]]
principal = "spiffe://shop/{tenant}/render"
tenant = "{tenant}"
rights = ["read", "render"]

[[rule]]
principal = "renderer"
tenants = ["acme"]
rights = ["read", "render"]
"""

Connect = Callable[..., Coordinator]


class Place:
    """Authorities, and a coordinator with a certificate of the first."""

    def __init__(self, folder: Path, new_server: Callable[..., Server]) -> None:
        self.folder = folder
        self.authority = Authority(folder / "authority")
        self.foreign = Authority(folder / "foreign")
        self.own = self.authority.certify("DNS:localhost", "DNS:coordinator.shop")
        self._new_server = new_server
        write(folder / "policy.toml", POLICY)
        write(folder / "tokens.toml", f'[[token]]\nprincipal = "renderer"\nsecret = "{TOKEN}"\n')

    def start(self, *flags: str) -> Server:
        of_tls = ("--tls-cert", str(self.own.certificate), "--tls-key", str(self.own.key))
        return self._new_server(*of_tls, *flags)

    def with_tokens(self) -> Server:
        policy, tokens = self.folder / "policy.toml", self.folder / "tokens.toml"
        return self.start("--auth", "token", "--policy", str(policy), "--tokens", str(tokens))

    def with_certificates(self) -> Server:
        policy = self.folder / "policy.toml"
        return self.start(
            "--auth", "mtls", "--policy", str(policy), "--tls-client-ca", str(self.authority.file)
        )


@pytest.fixture
def place(tmp_path: Path, new_server: Callable[..., Server]) -> Place:
    return Place(tmp_path, new_server)


def presenting(client: Certified | None = None, **security: Any) -> Settings:
    if client is not None:
        security |= {"client_certificate_file": client.certificate, "client_key_file": client.key}
    return Settings(security=Security(**security), overall_timeout_seconds=10.0)


def impatient(settings: Settings) -> Settings:
    return Settings(security=settings.security, overall_timeout_seconds=0.5)


def it_speaks_to_whom_its_authority_vouches_for(place: Place, connect: Connect) -> None:
    address = place.with_tokens().encrypted_address
    by_file: dict[str, Any] = {"ca_file": place.authority.file}
    by_text: dict[str, Any] = {"ca_pem": place.authority.pem}
    for believed in (by_file, by_text):
        connect(address, presenting(token=TOKEN, **believed)).lookup(PAGE)
    # By this name it is certified, too.
    connect(address, presenting(token=TOKEN, **by_file, server_name="coordinator.shop")).lookup(PAGE)
    with pytest.raises(Refused) as raised:
        connect(address, presenting(**by_file)).lookup(PAGE)
    assert raised.value.reason is Reason.UNAUTHENTICATED


def it_says_nothing_to_whom_it_does_not_believe(place: Place, connect: Connect) -> None:
    server = place.with_tokens()
    strangers = [
        (server.encrypted_address, presenting(token=TOKEN, ca_file=place.foreign.file)),
        (server.encrypted_address, presenting(token=TOKEN)),
        (
            server.encrypted_address,
            presenting(token=TOKEN, ca_pem=place.authority.pem, server_name="elsewhere"),
        ),
        # Certified by name only.
        (
            server.encrypted_address.replace("localhost", "127.0.0.1"),
            presenting(token=TOKEN, ca_file=place.authority.file),
        ),
    ]
    for address, settings in strangers:
        with pytest.raises(Exception, match="no coordinator was reached") as raised:
            connect(address, impatient(settings)).lookup(PAGE)
        last = getattr(raised.value, "last", raised.value)
        assert isinstance(last, NotSent)
        assert not last.may_have_been_applied


def it_is_known_by_its_certificate(place: Place, connect: Connect) -> None:
    address = place.with_certificates().encrypted_address
    renderer = place.authority.certify(RENDERER)
    connect(address, presenting(renderer, ca_file=place.authority.file)).acquire(PAGE)
    texts = Security(
        ca_pem=place.authority.pem,
        client_certificate_pem=renderer.certificate.read_text(),
        client_key_pem=renderer.key.read_text(),
    )
    connect(address, Settings(security=texts)).acquire(PAGE)
    other = place.authority.certify("URI:spiffe://shop/globex/render")
    with pytest.raises(Refused) as raised:
        connect(address, presenting(other, ca_file=place.authority.file)).lookup(PAGE)
    assert raised.value.reason is Reason.PERMISSION_DENIED
    for stranger in (None, place.foreign.certify(RENDERER)):
        settings = impatient(presenting(stranger, ca_file=place.authority.file))
        with pytest.raises(Exception, match="no coordinator was reached"):
            connect(address, settings).lookup(PAGE)


def it_takes_certificates_from_their_files_for_each_new_channel(
    place: Place, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = place.with_certificates()
    proxy = Proxy(server.port)
    address = f"https://localhost:{proxy.port}"
    used = Certified(place.folder / "client.pem", place.folder / "client.key")

    def install(certified: Certified) -> None:
        write(used.key, certified.key.read_text())
        write(used.certificate, certified.certificate.read_text())

    def reconnect() -> None:
        proxy.cut()
        with pytest.raises(DeadlineExceeded):
            caller.lookup(PAGE)
        proxy.mend()

    install(place.authority.certify("URI:spiffe://shop/globex/render"))
    security = presenting(used, ca_file=place.authority.file).security
    caller = connect(address, Settings(security=security, overall_timeout_seconds=2.0))
    with pytest.raises(Refused):
        caller.lookup(PAGE)
    install(place.authority.certify(RENDERER))
    reconnect()
    caller.lookup(PAGE)

    # One without the other, as in the middle of being replaced: that of before goes on.
    write(used.key, place.authority.certify(RENDERER).key.read_text())
    with caplog.at_level(logging.WARNING, "leasehold"):
        reconnect()
        caller.lookup(PAGE)
    assert "is not the key of the certificate" in caplog.text
    assert "PRIVATE KEY" not in caplog.text
    proxy.cut()


def it_refuses_certificates_of_no_use(place: Place, connect: Connect) -> None:
    mine, others = place.authority.certify(RENDERER), place.authority.certify(RENDERER)
    encrypted, garbage, spoiled = (
        place.folder / name for name in ("encrypted.key", "garbage", "spoiled.pem")
    )
    subprocess.run(
        ["openssl", "pkey", "-in", str(mine.key), "-aes128", "-passout", "pass:word", "-out", str(encrypted)],
        check=True,
    )  # fmt: skip
    write(garbage, "nothing of the kind")
    lines = mine.certificate.read_text().splitlines()
    write(spoiled, "\n".join([lines[0], *lines[3:]]))
    missing = place.folder / "missing"
    certificate = {"client_certificate_file": mine.certificate}
    table: list[tuple[dict[str, Any], str]] = [
        ({"ca_file": missing}, f"security.ca_file: cannot read {missing}: No such file"),
        ({"ca_file": garbage}, f"security.ca_file: {garbage}: holds no certificate"),
        ({"ca_file": spoiled}, f"security.ca_file: {spoiled}: holds no certificate"),
        ({"ca_pem": "nothing of the kind"}, "security.ca_pem: holds no certificate"),
        (
            certificate | {"client_key_file": garbage},
            f"security.client_key_file: {garbage}: holds no private key",
        ),
        (
            certificate | {"client_key_file": encrypted},
            f"security.client_key_file: {encrypted}: is encrypted",
        ),
        (certificate | {"client_key_file": others.key}, f"{others.key} is not the key of the certificate"),
        (
            {"client_certificate_file": garbage, "client_key_file": mine.key},
            "security.client_certificate_file",
        ),
    ]
    for fields, problem in table:
        with pytest.raises(ConfigurationError) as raised:
            connect("https://localhost:1", Settings(security=Security(**fields)))
        assert problem in str(raised.value)


def it_refuses_settings_without_effect(place: Place, connect: Connect) -> None:
    mine = place.authority.certify(RENDERER)
    pair = {"client_certificate_file": mine.certificate, "client_key_file": mine.key}
    for fields, name in (
        ({"ca_file": place.authority.file}, "ca_file"),
        ({"ca_pem": place.authority.pem}, "ca_pem"),
        (pair, "client_certificate_file"),
        ({"server_name": "localhost"}, "server_name"),
    ):
        settings = Settings(security=Security(**fields))
        with pytest.raises(ConfigurationError, match=rf"security\.{name}: has no effect without TLS"):
            connect("http://localhost:1", settings)
        own = rf"security\.{name}: has no effect where `connect`"
        with pytest.raises(ConfigurationError, match=own):
            Coordinator("https://localhost:1", settings, connect=lambda *_: grpc.insecure_channel("a:1"))
        with pytest.raises(ConfigurationError, match=own):
            AsyncCoordinator(
                "https://localhost:1", settings, connect=lambda *_: grpc.aio.insecure_channel("a:1")
            )


def it_presents_its_token_on_channels_that_somebody_else_makes(place: Place) -> None:
    address = place.with_tokens().encrypted_address
    credentials = grpc.ssl_channel_credentials(place.authority.file.read_bytes())
    settings = Settings(security=Security(token=TOKEN))
    with Coordinator(
        address, settings, connect=lambda name, options: grpc.secure_channel(name, credentials, options)
    ) as coordinator:
        coordinator.lookup(PAGE)
