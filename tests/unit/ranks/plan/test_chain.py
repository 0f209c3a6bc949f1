"""Keys of blocks: equal exactly when everything is equal that keys and values depend on."""

from __future__ import annotations

from array import array

import pytest
from simulated_ports import in_arena

from mmplane.core.plan import Sampling, Submit
from mmplane.ranks.plan.chain import Chain, _marks
from mutation import Mutant, check_it_is_killed

BLOCK_TOKENS = 4
IDS = list(range(100, 110))
Item = tuple[bytes, tuple[tuple[int, int], ...]]


def chain(ids: list[int] = IDS, items: tuple[Item, ...] = ((b"cat", ((2, 5),)),), salt: bytes = b"alice") -> Chain:
    placeholders = tuple(runs for _, runs in items)
    sampling = Sampling(9, 0.0, 1.0, 0, 1)
    stored = tuple(in_arena(key) for key, _ in items)
    submit = Submit(1, array("i", ids).tobytes(), None, len(ids), stored, placeholders, sampling, salt=salt)
    return Chain.of(submit, submit.prompt, BLOCK_TOKENS)


def common(one: Chain, other: Chain) -> int:
    """How many blocks the two have in common."""
    pairs = [first == second for first, second in zip(one.keys, other.keys, strict=True)]
    assert pairs == sorted(pairs, reverse=True), "a key that differs makes all after it differ"
    return sum(pairs)


def test_every_full_block_has_a_key() -> None:
    assert len(chain().keys) == len(IDS) // BLOCK_TOKENS
    assert len(set(chain().keys)) == 2
    assert {len(key) for key in chain().keys} == {32}


def test_equal_prompts_have_equal_keys() -> None:
    assert common(chain(), chain()) == 2


def test_another_tenant_shares_nothing() -> None:
    assert common(chain(), chain(salt=b"bob")) == 0


def test_another_picture_shares_what_is_before_it() -> None:
    assert common(chain(), chain(items=((b"dog", ((2, 5),)),))) == 0
    assert common(chain(items=((b"cat", ((4, 2),)),)), chain(items=((b"dog", ((4, 2),)),))) == 1


@pytest.mark.parametrize("runs", [((1, 5),), ((2, 5), (7, 1)), ((2, 2), (4, 3))])
def test_another_place_of_the_same_picture_is_another_prompt(runs: tuple[tuple[int, int], ...]) -> None:
    assert common(chain(), chain(items=((b"cat", runs),))) < 2


def test_another_token_changes_its_block_and_what_follows() -> None:
    assert common(chain(), chain([*IDS[:5], 7, *IDS[6:]])) == 1
    assert common(chain(items=()), chain([7, *IDS[1:]], ())) == 0


def test_an_answer_goes_on_with_the_chain() -> None:
    """The next turn's prompt has the answer in it: its keys are those that the answer was kept under."""
    grown = chain().fork()
    for token in (1, 2, 3):
        grown.push(token)
    assert grown.keys == chain([*IDS, 1, 2, 3]).keys
    assert len(grown.keys) == len(chain().keys) + 1


def test_the_picture_at_the_end_of_a_prompt_stays_in_the_chain() -> None:
    def grown(key: bytes) -> list[bytes]:
        made = chain(items=((key, ((8, 2),)),))
        made.push(1)
        made.push(2)
        return made.keys

    assert grown(b"cat")[:2] == grown(b"dog")[:2]
    assert grown(b"cat")[2] != grown(b"dog")[2]


def test_forks_grow_apart() -> None:
    one = chain()
    other = one.fork()
    one.push(1)
    other.push(2)
    assert one.ids != other.ids


MUTANTS = (
    Mutant(
        "the content key is left out", _marks, " + item.content_key", "", test_another_picture_shares_what_is_before_it
    ),
    Mutant(
        "the salt is left out",
        Chain._close,
        "[CHAIN_VERSION, self.salt]",
        "[CHAIN_VERSION]",
        test_another_tenant_shares_nothing,
    ),
    Mutant(
        "keys do not chain",
        Chain._close,
        "[before, ids, *marks]",
        "[ids, *marks]",
        test_another_token_changes_its_block_and_what_follows,
    ),
    Mutant(
        "a picture that an answer follows is left out",
        Chain.push,
        "self._close(bytes(self.ids), self.marks)",
        "self._close(bytes(self.ids), [])",
        test_the_picture_at_the_end_of_a_prompt_stays_in_the_chain,
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_caught(mutant: Mutant, request: pytest.FixtureRequest) -> None:
    check_it_is_killed(mutant, request)
