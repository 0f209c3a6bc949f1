"""What must hold of the kit has a test that fails without it."""

from __future__ import annotations

import pytest
import test_kit_attach
import test_kit_figures
import test_kit_hooks
import test_kit_plugin
import test_kit_sidecar
import test_sglang_topology
from test_kit_figures import fresh  # noqa: F401 - a fixture of one of the tests

from mmplane.engines.kit import applied, applying, attach, doctor, gauges, hooks, leases, sidecar, verdict
from mmplane.engines.kit.gauges import Gauges
from mmplane.engines.kit.plugin import Plugin
from mmplane.engines.kit.tally import Tally
from mmplane.engines.sglang.topology import Topology, ranks_of
from mutation import Mutant, check_it_is_killed

MUTANTS = [
    Mutant(
        "no exception leaves load",
        Plugin.load,
        "except Exception as error",
        "except LookupError as error",
        test_kit_plugin.test_what_the_engine_raises_does_not_escape,
    ),
    Mutant(
        "a newer version needs leave",
        verdict.judge,
        "number > newest and allowed",
        "False",
        test_kit_plugin.test_newer_versions_must_be_allowed,
        ("0.5.24",),
    ),
    Mutant(
        "a tested version runs the self-test too",
        verdict.judge,
        "trouble is not None",
        "trouble is not None and version not in tested",
        test_kit_plugin.test_tested_versions,
        ("0.5.23",),
    ),
    Mutant(
        "versions are compared as numbers",
        verdict._release,
        'tuple(map(int, found[1].split(".")))',
        'tuple(found[1].split("."))',
        test_kit_plugin.test_newer_versions_must_be_allowed,
        ("0.10.1",),
    ),
    Mutant(
        "a line is said once",
        Plugin._say,
        "os.environ[said] = ",
        "_ = ",
        test_kit_plugin.test_what_does_not_fit_is_said_once,
        (test_kit_plugin.of("kit_nothing.HOOKS"), "this Kit lacks what is hooked"),
    ),
    Mutant(
        "parameters are compared by name",
        hooks._mismatch,
        "if first != [one.name for one in named]",
        "if len(first) != len(named)",
        test_kit_hooks.test_a_hook_that_does_not_fit,
        (hooks.Hook("kit_engine.Engine.send", test_kit_hooks.launch), "expected (cls, count)"),
    ),
    Mutant(
        "all are wrapped or none",
        applying._apply,
        "setattr, owner, name, found",
        "getattr, owner, name, found",
        test_kit_hooks.test_all_are_wrapped_or_none,
        ("kit_engine.Engine.retired",),
    ),
    Mutant(
        "a class method stays one",
        applying._apply,
        "kind(wrapped) if kind else wrapped",
        "wrapped",
        test_kit_hooks.test_every_kind_of_function_is_wrapped_and_restored,
    ),
    Mutant(
        "wrapped once, however often it is applied",
        applying._apply,
        "is hook.wrapper",
        "is hook",
        test_kit_hooks.test_a_second_application_changes_nothing,
    ),
    Mutant(
        "what a target was at first counts",
        applied.remember,
        "setdefault(hook.target, function_at(hook.target))",
        "update({hook.target: function_at(hook.target)})",
        test_kit_hooks.test_whether_they_took,
    ),
    Mutant(
        "one line at the first of each reason",
        Tally.passed_over,
        "self._passed_over[reason] == 0",
        "True",
        test_kit_figures.test_each_first_is_logged_once,
    ),
    Mutant(
        "gauges show the sum of a process's engines",
        gauges._Gauge.set,
        "sum(parts.values())",
        "value",
        test_kit_figures.test_gauges_of_two_engines_in_a_process_show_their_sum,
    ),
    Mutant(
        "counts are read and shown under one lock",
        Gauges.show,
        "with _showing:",
        "if True:",
        test_kit_figures.test_of_two_threads_the_later_one_shows_the_newer_count,
    ),
    Mutant(
        "the doctor fails where nothing was carried",
        doctor.served,
        "elif not carried",
        "elif False",
        test_kit_figures.test_a_server_that_carried_nothing_fails,
        ("mmplane_features_seen 2\nmmplane_features_carried 0", "none went through the arena"),
    ),
    Mutant(
        "a check that raises fails",
        doctor._outcome,
        "except Exception as error",
        "except LookupError as error",
        test_kit_figures.test_the_command,
    ),
    Mutant(
        "a refusal may pass",
        attach._run,
        "except (Lost, NotAttached, OSError)",
        "except (Lost, OSError)",
        test_kit_attach.test_what_may_pass_is_waited_for,
    ),
    Mutant(
        "what is not sent is given back",
        leases._give_back,
        "revoke(*left)",
        "pass",
        test_kit_attach.test_what_is_not_sent_is_given_back,
    ),
    Mutant(
        "another server's place is forgotten",
        sidecar.forget,
        "os.environ.pop(variable, None)",
        "pass",
        test_kit_sidecar.test_children_find_it_until_it_is_ended,
    ),
    Mutant(
        "before 0.5.22 dp_size counts groups where attention is data-parallel",
        Topology.of.__func__,
        'options.get("enable_dp_attention")',
        "False",
        test_sglang_topology.test_every_rank_has_a_place_of_its_own,
        (test_sglang_topology.OLD, 8, 1, 4, (2, 2, 2, 2)),
    ),
    Mutant(
        "replicas have groups of their own",
        Topology.position,
        "(dp_rank or 0)",
        "0",
        test_sglang_topology.test_every_rank_has_a_place_of_its_own,
        (test_sglang_topology.NEW, 2, 3, 1, (2, 2, 2)),
    ),
    Mutant(
        "a scheduler's rank is among its arguments in 0.5.20",
        ranks_of,
        '"tp_rank" in arguments',
        "False",
        test_sglang_topology.test_where_a_scheduler_says_its_rank,
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_mutant_is_killed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
