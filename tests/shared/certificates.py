"""Certificates that nobody has signed, or an authority of the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path


def write_certificate(path: Path, *more: str) -> Path:
    """A new one and its key in this file, made as docs/cluster.md says."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "3650", "-subj", "/CN=mmplane", "-keyout", str(path), "-out", str(path), *more]
    subprocess.run(command, check=True, capture_output=True)
    path.chmod(0o600)
    return path


def write_signed(path: Path, authority: Path, name: str) -> Path:
    """A new one for `name` and its key in this file, signed by the certificate in `authority`."""
    more = ["-CA", str(authority), "-CAkey", str(authority), "-addext", f"subjectAltName=DNS:{name}"]
    return write_certificate(path, *more, "-addext", "basicConstraints=critical,CA:FALSE")
