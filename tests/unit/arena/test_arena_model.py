"""The arena does what its model does, on any sequence of calls."""

from __future__ import annotations

from arena_machine import ArenaMachine
from profile_ci import CI

TestArenaMachine = ArenaMachine.TestCase
TestArenaMachine.settings = CI
