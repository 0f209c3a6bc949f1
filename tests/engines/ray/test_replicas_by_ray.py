"""A replica by a real Ray whose GCS is kept in a file: it serves on while the GCS is away, and ends with `down`."""

from __future__ import annotations

import re
from pathlib import Path

from lab import LIMIT_S, PORT, Machine, address, answers, machines
from live import until

CLUSTER = f"{address(0)}:{PORT}"
SERVE = "--model tiny --port 8100 --workers 1 --arena-bytes 256MiB --kv-bytes 256MiB"


def standing(machine: Machine) -> str:
    """The process id of the replica, as `status` says it; empty while Ray does not answer."""
    code, said = machine.run("mmplane", "ray", "status", "--address", CLUSTER)
    found = re.search(r"replica +runs for \d+ s \(pid (\d+)\)\n", said)
    return found[1] if code == 0 and found else ""


def test_a_replica_serves_on_while_the_gcs_is_away(tmp_path: Path) -> None:
    (tmp_path / "gcs").mkdir()
    kept = {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(tmp_path / "gcs")}
    kept["RAY_gcs_rpc_server_reconnect_timeout_s"] = f"{LIMIT_S:.0f}"  # however long it takes to start again
    with machines(1, tmp_path, **kept) as (network, (machine,)):
        machine.start_ray(head=True)
        code, said = machine.run("mmplane", "ray", "up", "--address", CLUSTER, "--replicas", "1", "--flags", SERVE)
        assert code == 0, said
        until(lambda: answers(network, "http://127.0.0.1:8100/ready") == 200, LIMIT_S, "it serves")
        pid = standing(machine)
        (gcs,) = machine.processes(lambda words: "gcs_server" in words.split()[0])
        words = gcs.cmdline()
        gcs.kill()
        gcs.wait(LIMIT_S)
        assert answers(network, "http://127.0.0.1:8100/ready") == 200
        machine.begin(*words)
        until(lambda: standing(machine) == pid, LIMIT_S, "the same replica under the same Ray")
        assert answers(network, "http://127.0.0.1:8100/ready") == 200
        code, said = machine.run("mmplane", "ray", "down", "--address", CLUSTER)
        assert (code, "ended on 1 machines" in said) == (0, True), said
        until(lambda: not machine.processes(lambda words: words.startswith("mmplane: ")), LIMIT_S, "nothing is left")
