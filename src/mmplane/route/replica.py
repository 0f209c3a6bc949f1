"""A replica by its URL: its name in HAProxy, and its place on the hash ring. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self
from urllib.parse import urlsplit

REPLICAS_MAX = 64
IDS = 2**20
"""HAProxy's ring has 4,096 places for each id, in 32 bits."""
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,200}")


@dataclass(frozen=True, order=True)
class Replica:
    """One server, mmplane's or another one."""

    host: str
    """An address, or a name."""
    port: int
    tls: str = ""
    """The name that its certificate must have; empty: plain HTTP."""

    @classmethod
    def of(cls, url: str, flag: str = "--replica") -> Self:
        """Parse a URL. Raises ValueError with a text for the operator."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise ValueError(f"{flag}: {url!r:.100} is not a URL") from None
        known = parts.scheme in ("http", "https")
        if not known or parts.username is not None or parts.path not in ("", "/") or parts.query:
            text = "is not http://HOST:PORT or https://HOST:PORT, without anything behind it"
            raise ValueError(f"{flag}: {url!r:.100} {text}")
        if not _HOST.fullmatch(host):
            raise ValueError(f"{flag}: {url!r:.100} has no host, or one that is not a name or an address")
        if parts.scheme == "http":
            return cls(host, port)
        if _is_address(host):
            text = "needs a name instead of an address: HAProxy only finds names in certificates"
            raise ValueError(f"{flag}: {url!r:.100} {text}")
        return cls(host, port, tls=host)

    @property
    def name(self) -> str:
        """HAProxy's name and address for it. An IPv6 address has no brackets there."""
        return f"{self.host}:{self.port}"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def numbered(replicas: Iterable[Replica], taken: Iterable[int] = ()) -> dict[Replica, int]:
    """Choose an id for each by its name, so that a key's replica does not depend on their order or on a restart.

    Raises ValueError if there are more than REPLICAS_MAX, including existing ones.
    """
    used = set(taken)
    numbers: dict[Replica, int] = {}
    for replica in sorted(set(replicas)):
        if len(used) == REPLICAS_MAX:
            raise ValueError(f"--replica: at most {REPLICAS_MAX} of them")
        number = int.from_bytes(hashlib.sha256(replica.name.encode()).digest()[:8], "big") % IDS
        while number in used or not number:
            number = (number + 1) % IDS
        used.add(number)
        numbers[replica] = number
    return numbers
