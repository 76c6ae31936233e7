"""Certificates, made in the test by `openssl`."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certified:
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._own = Certified(folder / "ca.pem", folder / "ca.key")
        self._made = 0
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc",
            "-days", "1", "-subj", "/CN=authority",
            "-keyout", str(self._own.key), "-out", str(self._own.certificate),
        )  # fmt: skip

    @property
    def file(self) -> Path:
        return self._own.certificate

    @property
    def pem(self) -> str:
        return self.file.read_text()

    def certify(self, *names: str) -> Certified:
        """For somebody of these names, such as `DNS:localhost`."""
        self._made += 1
        made = Certified(self._folder / f"{self._made}.pem", self._folder / f"{self._made}.key")
        request, extensions = self._folder / "request.pem", self._folder / "extensions"
        extensions.write_text(f"subjectAltName={','.join(names)}\n")
        _openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc",
            "-subj", "/CN=somebody", "-keyout", str(made.key), "-out", str(request),
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", str(request), "-days", "1", "-extfile", str(extensions),
            "-CA", str(self._own.certificate), "-CAkey", str(self._own.key), "-CAcreateserial",
            "-out", str(made.certificate),
        )  # fmt: skip
        return made


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, stdin=subprocess.DEVNULL)
