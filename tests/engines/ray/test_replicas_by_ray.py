"""Replicas by a real Ray whose GCS is kept in a file, and a router that follows them.

They serve on while the GCS is away, come and go with `up` and `down`, and the router knows.
"""

from __future__ import annotations

import re
from pathlib import Path

from lab import LIMIT_S, PORT, Machine, address, answers, machines

from polling import until

CLUSTER = f"{address(0)}:{PORT}"
SERVE = "--model tiny --host 0.0.0.0 --port 8100 --workers 1 --arena-bytes 256MiB --kv-bytes 256MiB --api-key-file "
READY = "http://127.0.0.1:8080/ready"


def standing(machine: Machine) -> list[str]:
    """Process ids of the replicas, as `status` says them; none while Ray does not answer."""
    code, said = machine.run("mmplane", "ray", "status", "--address", CLUSTER)
    return re.findall(r"replica +runs for \d+ s \(pid (\d+)\)\n", said) if code == 0 else []


def test_a_router_follows_replicas_which_serve_on_while_the_gcs_is_away(tmp_path: Path) -> None:
    (tmp_path / "gcs").mkdir()
    keys = tmp_path / "keys"
    keys.write_text("the-key-of-clients\n")
    keys.chmod(0o600)
    serve = ("--flags", SERVE + str(keys))
    kept = {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(tmp_path / "gcs")}
    kept["RAY_gcs_rpc_server_reconnect_timeout_s"] = f"{LIMIT_S:.0f}"  # however long it takes to start again
    with machines(2, tmp_path, **kept) as (network, (head, other)):
        folder = ("--folder", str(tmp_path / "route"))

        def ray(action: str, *flags: str) -> None:
            code, said = head.run("mmplane", "ray", action, "--address", CLUSTER, *flags)
            assert code == 0, said

        def routed() -> dict[str, str]:
            code, said = head.run("mmplane", "route", "list", *folder)
            assert code == 0, said
            return {words[0]: words[2] for words in map(str.split, said.splitlines()[1:])}

        def have(*addresses: str) -> None:
            wanted = {f"{each}:8100": "UP" for each in addresses}
            until(lambda: routed() == wanted, LIMIT_S, f"the router has {wanted}")

        head.start_ray(head=True)
        router = head.begin("mmplane", "route", "--ray", CLUSTER, "--api-key-file", str(keys), *folder)
        router.said("0 replicas and those of Ray")
        assert answers(network, READY) == 503
        ray("up", "--replicas", "1", *serve)
        have(address(0))
        assert answers(network, READY) == 200

        pids = standing(head)
        (gcs,) = head.processes(lambda words: "gcs_server" in words.split()[0])
        words = gcs.cmdline()
        gcs.kill()
        gcs.wait(LIMIT_S)
        (scout,) = head.processes(lambda words: words.startswith("mmplane: scout"))
        scout.kill()
        router.said("the scout ended")
        have(address(0))
        assert answers(network, READY) == 200
        head.begin(*words)
        until(lambda: standing(head) == pids, LIMIT_S, "the same replica under the same Ray")
        have(address(0))

        other.start_ray()
        ray("up", "--replicas", "2", *serve)
        have(address(0), address(1))
        assert pids[0] in standing(head)
        other.end()
        have(address(0))
        ray("down")
        have()
        router.stop()
        until(lambda: not head.processes(lambda words: words.startswith("mmplane: ")), LIMIT_S, "nothing is left")
