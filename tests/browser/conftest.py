"""The made-up run is that of the unit tests, servers are started as by the process tests."""

from __future__ import annotations

import sys
from pathlib import Path

for suite in ("unit/bench", "process"):
    sys.path.append(str(Path(__file__).parents[1] / suite))
