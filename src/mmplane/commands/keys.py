"""Reads the API keys from a file and the environment, without leaving a copy in memory."""

from __future__ import annotations

import logging
import re
import secrets

from mmplane.core.keyring import SALT_BYTES, WEAK_CHARACTERS, Keyring, parse_keyring
from mmplane.process.environment import take, wipe

log = logging.getLogger("mmplane")

KEYS_BYTES_MAX = 1024 * 1024
"""The limit on a key file, including comments."""
KEYS_VARIABLE = "MMPLANE_API_KEYS"
"""Several keys, separated by commas."""
KEY_VARIABLE = "MMPLANE_API_KEY"
"""One key with any content. Our clients read this variable too."""
_ONE_KEY = re.compile(rb"\s*[!-~]+\s*")


def read_keyring(path: str) -> Keyring:
    """Read the API keys from the file and the environment, and remove them from the environment.

    So no child inherits them. Raises ValueError for the operator.
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
    """The file's content, which is its only copy in memory."""
    text = memoryview(bytearray(KEYS_BYTES_MAX))
    end = 0
    try:
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(text[end:]):
                end += count
    except (OSError, ValueError):
        raise ValueError(f"--api-key-file: {path} cannot be read") from None
    if end == len(text):
        raise ValueError(f"--api-key-file: {path} is longer than {KEYS_BYTES_MAX} bytes")
    return text[:end]
