"""`mmplane doctor --ray [ADDRESS]`: whether a Ray cluster is set as it should be.

Run it on a machine of the cluster. It exits with 1 when something is wrong, and with 2 when it cannot look. A line that
says `could be better` is advice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from mmplane.core.findings import Finding, Verdict, shown
from mmplane.parser import Parser
from mmplane.ray.checks import Cluster, findings
from mmplane.ray.cluster import connect, facts

ADDRESS = "127.0.0.1:6379"
INSTALL = "install mmplane[ray] of this version for the Python that Ray runs with there"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = Parser(prog="mmplane doctor", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--ray", action="store_true", required=True)
    parser.add_argument(
        "address", nargs="?", help="HOST:PORT of its GCS (default: $RAY_ADDRESS, or this machine's port 6379)"
    )
    given = parser.parse_args(arguments).address
    try:
        dashboard = connect(given or os.environ.get("RAY_ADDRESS") or ADDRESS)
    except ValueError as error:
        print(f"mmplane: {error}", file=sys.stderr)
        return 2
    found = facts()
    machines = tuple(each for each in found if not isinstance(each, str))
    silent = (Finding("machine", each, Verdict.WRONG, INSTALL) for each in found if isinstance(each, str))
    text, status = shown((*silent, *findings(Cluster(machines, dashboard))))
    print(text)
    return status
