"""The API keys of a file and of the environment, read so that no copy of them stays in memory."""

from __future__ import annotations

import logging
import re
import secrets

from mmplane.core.keyring import SALT_BYTES, WEAK_CHARACTERS, Keyring, parse_keyring
from mmplane.process.environment import take, wipe

log = logging.getLogger("mmplane")

KEYS_BYTES_MAX = 1024 * 1024
"""Of a file of keys, with what is said in it about them."""
KEYS_VARIABLE = "MMPLANE_API_KEYS"
"""Several, with commas between them."""
KEY_VARIABLE = "MMPLANE_API_KEY"
"""One, whatever is in it: clients of ours read it too."""
_ONE_KEY = re.compile(rb"\s*[!-~]+\s*")


def read_keyring(path: str) -> Keyring:
    """The API keys of the file and of the environment. They leave the environment: no child inherits them.

    Raises ValueError for the operator.
    """
    several, one = take(KEYS_VARIABLE), take(KEY_VARIABLE)
    texts: list[bytearray | memoryview] = [each for each in (several, one) if each is not None]
    try:
        if one is not None and not _ONE_KEY.fullmatch(one):
            raise ValueError(
                f"{KEY_VARIABLE} does not hold exactly one key: put several into a file for --api-key-file"
            )
        if path:
            texts.insert(0, _read_keys(path))
        while several is not None and (comma := several.find(b",")) >= 0:
            several[comma] = ord("\n")
        keyring = parse_keyring(*texts, salt=secrets.token_bytes(SALT_BYTES))
    finally:
        for text in texts:
            wipe(text)
    if not keyring and (path or several is not None or one is not None):
        raise ValueError(f"--api-key-file, {KEYS_VARIABLE} or {KEY_VARIABLE} is given, but contains no key")
    if keyring.weak:
        log.warning("%d API keys have fewer than %d characters", keyring.weak, WEAK_CHARACTERS)
    return keyring


def _read_keys(path: str) -> memoryview:
    """What is in the file; the only copy of it in memory."""
    text = memoryview(bytearray(KEYS_BYTES_MAX))
    end = 0
    try:
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(text[end:]):
                end += count
    except (OSError, ValueError):
        raise ValueError(f"--api-key-file: {path} cannot be read") from None
    if end == len(text):
        raise ValueError(f"--api-key-file: {path} holds more than {KEYS_BYTES_MAX} bytes")
    return text[:end]
