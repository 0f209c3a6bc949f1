"""What lies in the memory of another process."""

from __future__ import annotations

import re
from pathlib import Path


def copies(pid: int, *words: bytes) -> int:
    """How often any of these words lies in the memory of a process that can be written."""
    found = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            low, high, rights = re.match(r"(\w+)-(\w+) (\S+)", line).groups()  # type: ignore[union-attr]
            if "rw" in rights and "[vvar" not in line:
                memory.seek(int(low, 16))
                content = memory.read(int(high, 16) - int(low, 16))
                found += sum(content.count(word) for word in words)
    return found
