"""Whether a plugin is on for this version of an engine, and why.

tested                the tests have run with exactly this version
works by self-test    a release between the tested ones, or a newer one that the operator has allowed
off                   older, newer without permission, or a problem with the hooks or in the self-test
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

TESTED = "tested"
BY_SELF_TEST = "works by self-test"


class Verdict(NamedTuple):
    """`says` is how the version is known to work, or why the plugin is off."""

    is_on: bool
    says: str


def judge(
    engine: str,
    version: str,
    *,
    tested: tuple[str, ...],
    allowed: str,
    check: Callable[[], str | None],
    compared: str = "",
) -> Verdict:
    """Judge this version.

    `tested` are in ascending order. `compared` is a newer version whose names and signatures of hooked functions were
    compared, without running anything. `allowed` is the environment variable that allows a newer version; the caller
    passes "" if it is set. `check` checks the hooks and runs the self-test, and returns a problem or None. It is not
    called if the version alone decides.
    """
    number, oldest, newest = _release(version), _release(tested[0]), _release(compared or tested[-1])
    names = ", ".join(tested)
    if number is None or oldest is None or newest is None:
        return Verdict(False, f"{engine} {version} is not a version that can be compared; tested are {names}")
    if number < oldest:
        return Verdict(False, f"{engine} {version} is older than what is supported: {names}")
    if number > newest and allowed:
        return Verdict(False, f"{engine} {version} is newer than what is tested ({names}): set {allowed}=1 to try it")
    trouble = check()
    if trouble is not None:
        return Verdict(False, trouble)
    return Verdict(True, TESTED if version.partition("+")[0] in tested else BY_SELF_TEST)


def _release(version: str) -> tuple[int, ...] | None:
    """(0, 5, 23) for 0.5.23, 0.5.23.post1, 0.5.23rc1 and 0.5.23+cu130."""
    found = re.match(r"(\d+(?:\.\d+)*)", version)
    return None if found is None else tuple(map(int, found[1].split(".")))
