"""How a handle is told who it is: fields and variables that go together, and what shows of them."""

from __future__ import annotations

import os
from typing import Any

import pytest

from leasehold import ConfigurationError, Coordinator, InvalidArgument, Security, Settings, Token

KEY = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"


def it_takes_the_environments_word() -> None:
    assert Security.from_env({}) == Security()
    names = ("CA", "CA_PEM", "CLIENT_CERT", "CLIENT_KEY", "SERVER_NAME", "AUTH_TOKEN", "AUTH_TOKEN_FILE")
    assert Security.from_env({f"LEASEHOLD_{name}": "" for name in names}) == Security()
    files = {
        "LEASEHOLD_CA": "ca.pem",
        "LEASEHOLD_CLIENT_CERT": "client.pem",
        "LEASEHOLD_CLIENT_KEY": "client.key",
        "LEASEHOLD_SERVER_NAME": "coordinator",
        "LEASEHOLD_AUTH_TOKEN_FILE": "token",
    }
    assert Security.from_env(files) == Security(
        ca_file="ca.pem",
        client_certificate_file="client.pem",
        client_key_file="client.key",
        server_name="coordinator",
        token_file="token",
    )
    texts = {"LEASEHOLD_CA_PEM": "PEM", "LEASEHOLD_AUTH_TOKEN": "a-token", "LEASEHOLD_CA": ""}
    assert Security.from_env(texts) == Security(ca_pem="PEM", token="a-token")


def it_reads_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LEASEHOLD_")]:
        monkeypatch.delenv(name)
    assert Security.from_env() == Security()
    monkeypatch.setenv("LEASEHOLD_AUTH_TOKEN", "a-token")
    assert Security.from_env() == Security(token="a-token")


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"LEASEHOLD_CA": "a", "LEASEHOLD_CA_PEM": "b"}, "LEASEHOLD_CA and LEASEHOLD_CA_PEM are both set"),
        ({"LEASEHOLD_AUTH_TOKEN": "a", "LEASEHOLD_AUTH_TOKEN_FILE": "b"}, "LEASEHOLD_AUTH_TOKEN and"),
        (
            {"LEASEHOLD_CLIENT_CERT": "a"},
            "LEASEHOLD_CLIENT_CERT and LEASEHOLD_CLIENT_KEY must be set together",
        ),
        ({"LEASEHOLD_CLIENT_KEY": "a", "LEASEHOLD_CLIENT_CERT": ""}, "must be set together"),
        ({"LEASEHOLD_AUTH_TOKEN": "two words"}, "LEASEHOLD_AUTH_TOKEN: must be visible ASCII"),
    ],
)
def it_refuses_an_environment_that_contradicts_itself(variables: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as raised:
        Security.from_env(variables)
    assert "two words" not in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"ca_pem": "a", "ca_file": "b"}, "ca_pem and ca_file are both given"),
        ({"token": "a", "token_file": "b"}, "token and token_file are both given"),
        ({"token_file": "a", "token_by": lambda: Token("a")}, "token_file and token_by are both given"),
        ({"client_certificate_pem": "a", "client_certificate_file": "b"}, "client_certificate_pem and"),
        (
            {"client_key_pem": "a", "client_key_file": "b"},
            "client_key_pem and client_key_file are both given",
        ),
        ({"client_certificate_file": "a"}, "client_certificate_file: has no effect without client_key"),
        ({"client_key_pem": KEY}, "client_key_pem: has no effect without client_certificate"),
        ({"server_name": ""}, "server_name: must not be empty"),
        ({"ca_file": ""}, "ca_file: must not be empty"),
        ({"token": ""}, "token: must not be empty"),
        ({"token": "secret, other"}, "token: must be visible ASCII without commas"),
        ({"token": "secret\n"}, "token: must be visible ASCII"),
        ({"token": "secr\u00e9t"}, "token: must be visible ASCII"),
    ],
)
def it_refuses_fields_that_contradict_each_other(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as raised:
        Security(**fields)
    assert "secr" not in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"token": b"secret"}, "token"),
        ({"token_by": "secret"}, "token_by"),
        ({"ca_pem": b"secret"}, "ca_pem"),
        ({"client_key_file": 1}, "client_key_file"),
    ],
)
def it_refuses_fields_of_the_wrong_type(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        Security(**fields)
    assert raised.value.field == named
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("life", [-1.0, float("nan"), float("inf")])
def it_refuses_a_life_that_is_none(life: float) -> None:
    with pytest.raises(ConfigurationError, match="expires_in_seconds"):
        Token("a-token", life)


def it_shows_no_secret() -> None:
    security = Security(token="a-secret", ca_file="ca.pem")
    with_key = Security(client_certificate_pem="PEM", client_key_pem=KEY)
    handle = Coordinator("http://127.0.0.1:1", Settings(security=Security(token="a-secret")))
    for shown in (security, with_key, Settings(security=security), Token("a-secret", 60), handle):
        for text in (repr(shown), str(shown)):
            assert "secret" not in text
            assert "c2VjcmV0" not in text
    handle.close()
    assert "ca.pem" in repr(security)
