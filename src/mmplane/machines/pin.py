"""TLS between a server and its media machines: machines recognise the server's certificate by its digest.

There are no authorities, names or dates to check. Only TLS 1.3 is used, without renegotiation and session tickets.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import ssl

from mmplane.machines.greeting import Refusal
from mmplane.process.handed import hand_over

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def pin_of(certificate: bytes) -> str:
    """Digest of a certificate's DER, by which machines recognise it."""
    return hashlib.sha256(certificate).hexdigest()


def pin_of_file(pem: bytes) -> str:
    """Digest of the first certificate in a PEM file. Raises ValueError."""
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("there is no certificate in it")
    return pin_of(ssl.PEM_cert_to_DER_cert(found[0].decode("ascii")))


def checked(pin: str) -> str:
    """Normalise a pin to 64 hexadecimal digits; colons are ignored. Raises ValueError."""
    digits = pin.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError("--join-pin: not a SHA-256 digest of a certificate; use the one that the server logs at start")
    return digits


def server_context(pem: bytes) -> ssl.SSLContext:
    """TLS context of a server, from a PEM file with its certificate and key. Raises ValueError."""
    context = _bounded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.num_tickets = 0
    descriptor = hand_over("mmplane-certificate", pem)
    try:
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    except OSError as error:
        raise ValueError(f"it must hold a certificate and its key without a password ({error})") from None
    finally:
        os.close(descriptor)
    return context


def machine_context() -> ssl.SSLContext:
    """TLS context of a machine. It accepts any certificate; call `check` afterwards."""
    context = _bounded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def check(certificate: bytes, pin: str) -> None:
    """Raise Refusal if the certificate is not the pinned one."""
    found = pin_of(certificate)
    if not hmac.compare_digest(found, pin):
        raise Refusal(f"the server's certificate is {found}, and --join-pin says {pin}")


def _bounded(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context
