"""What native code prints to descriptor 2: one bounded line in the log, and nothing past it."""

from __future__ import annotations

import subprocess
import sys

CODE = r"""
import logging, os
from mmplane.process import logs
from mmplane.process.printed import PRINTED_BYTES_MAX, Printed

logs.begin("text", "info", "worker 1")
printed, stderr = Printed.divert()
logs.go_on(stderr)
assert printed.take() == ""
os.write(2, b"a client's \x1b[2J bytes\n2026 mmplane ERROR forged\n")
logging.getLogger("mmplane").warning("a decoder printed: %s", printed.take())
written = 0
try:
    while True:
        written += os.write(2, b"x" * 4096)
except BlockingIOError:
    pass
assert written == PRINTED_BYTES_MAX
logging.getLogger("mmplane").warning("and: %s", printed.take())
assert printed.take() == ""
"""


def test_what_is_printed_is_a_bounded_line_of_the_log() -> None:
    ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True, timeout=60)
    first, second = ran.stderr.decode().splitlines()
    assert "WARNING a decoder printed: a client's" in first
    assert "\x1b" not in first
    assert "forged" in first
    assert len(second) < 1100
