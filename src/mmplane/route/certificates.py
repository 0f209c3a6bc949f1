"""Checks PEM files before HAProxy reads them: certificates with their keys, and authorities."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable

from mmplane.process.handed import hand_over


def check_certificate(pem: bytes) -> None:
    """Raises ValueError unless this is a certificate, with or without its chain, and its private key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(pem, lambda path: context.load_cert_chain(path, password=""))


def check_authorities(pem: bytes) -> None:
    """Raises ValueError unless these are certificates."""
    _load(pem, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations)


def _load(pem: bytes, load: Callable[[str], None]) -> None:
    descriptor = hand_over("mmplane-certificate", pem)
    try:
        load(f"/proc/self/fd/{descriptor}")
    except OSError as error:
        reason = getattr(error, "reason", None) or "a part is missing or broken"
        raise ValueError(reason.replace("_", " ").lower()) from None
    finally:
        os.close(descriptor)
