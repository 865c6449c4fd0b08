"""Certificates for tests, made by the openssl command: an authority, and servers' certificates good and bad."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from gevent import ssl

_CONFIG = """
[ca]
default_ca = own
[own]
new_certs_dir = {folder}
database = {folder}/index.txt
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
"""


@dataclass
class Authority:
    """Makes servers' certificates; `file` is its own, to be trusted."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "ca.pem"

    def server(self, name: str, *, start: str = "20200101000000Z", end: str = "20991231235959Z") -> ssl.SSLContext:
        """A TLS context of a server with this name in its certificate. Times as YYYYMMDDHHMMSSZ."""
        key, request, cert = (self.folder / f"{name}-{end}.{kind}" for kind in ("key", "csr", "pem"))
        _openssl("req", "-new", *_NEW_KEY, "-keyout", key, "-out", request, *_naming(name))
        _openssl(
            *("ca", "-batch", "-config", self.folder / "ca.conf", "-cert", self.file, "-keyfile", self.folder / "ca.key"),
            *("-in", request, "-out", cert, "-notext", "-startdate", start, "-enddate", end),
        )
        return _context(cert, key)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def authority(folder: Path) -> Authority:
    _openssl("req", "-x509", *_NEW_KEY, "-keyout", folder / "ca.key", "-out", folder / "ca.pem", "-subj", "/CN=Test authority")
    (folder / "index.txt").touch()
    (folder / "ca.conf").write_text(_CONFIG.format(folder=folder))
    return Authority(folder)


def self_signed(folder: Path, name: str) -> ssl.SSLContext:
    key, cert = folder / "self.key", folder / "self.pem"
    _openssl("req", "-x509", *_NEW_KEY, "-keyout", key, "-out", cert, *_naming(name))
    return _context(cert, key)


def _naming(name: str) -> tuple[str, ...]:
    return ("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}")


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=20)
