"""`mmplane doctor --vllm` in vLLM's environment. With a running server: test_data_parallel.py."""

from __future__ import annotations

from vllm_live import doctor


def test_it_says_what_is_wrong() -> None:
    ran = doctor(VLLM_PLUGINS="other", MMPLANE_VLLM="")
    assert ran.returncode == 1
    assert "VLLM_PLUGINS leaves it out" in ran.stdout
    assert "MMPLANE_VLLM switches it off" in ran.stdout
