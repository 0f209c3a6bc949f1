"""Every rule of what runs on machines, and of what doctor says of them, has a test that fails without it."""

from __future__ import annotations

import pytest
import test_host
import test_ray_checks
import test_ray_facts
import test_scout
import test_scouting
import test_wanted
from test_scout import scene  # noqa: F401 - a fixture of one of the tests

from mmplane.ray import checks, facts, host, wanted
from mmplane.ray.scout import Scout
from mmplane.ray.scouting import Scouting
from mutation import Mutant, check_it_is_killed

MUTANTS = [
    Mutant(
        "the server's own machine makes no media for it",
        wanted.due,
        "if node.address != each.without",
        "if True",
        test_wanted.test_every_machine_but_the_servers_makes_media,
    ),
    Mutant(
        "no more machines than asked for",
        wanted.due,
        "[: each.machines_max]",
        "[:]",
        test_wanted.test_replicas_are_as_many_as_asked_for_and_keep_their_machines,
    ),
    Mutant(
        "a machine keeps what it runs",
        wanted.due,
        "(name not in hosts, name)",
        "name",
        test_wanted.test_replicas_are_as_many_as_asked_for_and_keep_their_machines,
    ),
    Mutant(
        "a replica is where its actor is",
        wanted.replicas,
        " if host_name(each, node) in hosts",
        "",
        test_wanted.test_replicas_are_where_their_actors_are,
    ),
    Mutant(
        "replicas are told when they change",
        Scout._tell_replicas,
        "if found != self._replicas",
        "if self._replicas is None",
        test_scout.test_replicas_are_told_when_they_change,
    ),
    Mutant(
        "a cluster that was never told is left alone",
        Scout.look,
        "if (wanted := self._wanted()) is not None",
        "if (wanted := self._wanted() or ()) is not None",
        test_scout.test_nothing_is_started_or_ended_in_a_cluster_that_was_never_told,
    ),
    Mutant(
        "a host that does not stay is started rarely",
        Scout._reconcile,
        "self._tried_s[name] = now_s",
        "pass",
        test_scout.test_a_host_that_does_not_stay_is_not_started_all_the_time,
    ),
    Mutant(
        "a new cluster is told what was wanted of the last",
        Scout._wanted,
        "self._cluster.want(self._told)",
        "return None",
        test_scout.test_a_new_cluster_is_told_what_was_wanted_of_the_last,
    ),
    Mutant(
        "what was written meanwhile counts more",
        Scout._wanted,
        "if wanted is None and self._told is not None",
        "if self._told is not None",
        test_scout.test_what_was_written_meanwhile_counts_more_than_what_the_supervisor_remembers,
    ),
    Mutant(
        "scouts are started less and less",
        Scouting.reconcile,
        "min(BACKOFF_MAX_S, 2 * self._delay_s)",
        "self._delay_s",
        test_scouting.test_scouts_that_say_nothing_are_started_less_and_less,
    ),
    Mutant(
        "a command that ends at once is started less and less",
        host.backoff_s,
        "2 * last_s",
        "last_s",
        test_host.test_the_wait_grows_and_ends_with_a_long_life,
    ),
    Mutant(
        "Ray's token is not passed on",
        host.cleared,
        '"RAY_", ',
        "",
        test_host.test_rays_own_variables_are_not_passed_on,
    ),
    Mutant(
        "sockets inside of a machine are none of the open ones",
        facts.listening,
        " and not int(address, 16)",
        "",
        test_ray_facts.test_sockets_that_listen_on_all_interfaces,
    ),
    Mutant(
        "Redis alone makes a GCS survive",
        checks.survives_gcs,
        "any(each.redis for each in cluster.machines)",
        "True",
        test_ray_checks.test_what_ray_started_survives_a_gcs_that_is_kept_somewhere,
    ),
    Mutant(
        "no token is the default of older versions",
        checks._asks_for_token,
        'else "disabled"',
        'else "token"',
        test_ray_checks.test_what_is_wrong_on_one_machine,
        (test_ray_checks.changed(test_ray_checks.MEDIA, settings={}), "token", "media", "RAY_AUTH_MODE=token"),
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_noticed(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
