"""Certificates that nobody has signed."""

from __future__ import annotations

import subprocess
from pathlib import Path


def write_certificate(path: Path) -> Path:
    """A new one and its key in this file, made as docs/cluster.md says."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "3650", "-subj", "/CN=mmplane", "-keyout", str(path), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    path.chmod(0o600)
    return path
