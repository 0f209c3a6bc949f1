"""Blocks: who uses them, who finds them, and which is taken next. The simulation covers the rest."""

from __future__ import annotations

from mmplane.ranks.plan.blocks import Blocks


def taken(blocks: Blocks, count: int) -> list[int]:
    found = [blocks.take() for _ in range(count)]
    assert None not in found
    return [block for block in found if block is not None]


def test_there_are_so_many_and_no_more() -> None:
    blocks = Blocks(3)
    assert sorted(taken(blocks, 3)) == [0, 1, 2]
    assert (blocks.take(), blocks.used, blocks.available) == (None, 3, 0)


def test_what_nobody_can_find_is_free_at_once() -> None:
    blocks = Blocks(2)
    blocks.drop(taken(blocks, 2))
    assert (blocks.used, blocks.idle, blocks.available) == (0, 0, 2)


def test_what_was_published_is_found_until_it_is_taken_for_something_else() -> None:
    blocks = Blocks(2)
    (block,) = taken(blocks, 1)
    blocks.publish(block, b"key")
    blocks.drop([block])
    assert (blocks.find([b"key"]), blocks.idle, blocks.available) == ([block], 1, 2)
    blocks.share([block])
    assert (blocks.idle, blocks.used) == (0, 1)
    blocks.drop([block])
    taken(blocks, 2)
    assert (blocks.find([b"key"]), blocks.evicted) == ([], 1)


def test_only_an_unbroken_beginning_is_found() -> None:
    blocks = Blocks(3)
    first, _, third = taken(blocks, 3)
    blocks.publish(first, b"1")
    blocks.publish(third, b"3")
    assert blocks.find([b"1", b"2", b"3"]) == [first]


def test_the_longest_idle_goes_first_and_the_end_of_a_prompt_before_its_beginning() -> None:
    blocks = Blocks(4)
    old, new = taken(blocks, 2), taken(blocks, 2)
    for block in (*old, *new):
        blocks.publish(block, b"%d" % block)
    blocks.drop(old)
    blocks.drop(new)
    blocks.share(blocks.find([b"%d" % old[0]]))
    blocks.drop(old[:1])
    assert taken(blocks, 4) == [old[1], new[1], new[0], old[0]]


def test_a_block_in_use_is_never_taken() -> None:
    blocks = Blocks(2)
    one, other = taken(blocks, 2)
    blocks.publish(one, b"key")
    blocks.share([one])
    blocks.drop([one, other])
    assert (blocks.is_shared(one), taken(blocks, 1), blocks.take()) == (False, [other], None)


def test_two_that_compute_the_same_keep_one() -> None:
    blocks = Blocks(2)
    one, other = taken(blocks, 2)
    blocks.publish(one, b"key")
    blocks.publish(other, b"key")
    blocks.drop([one, other])
    assert (blocks.find([b"key"]), blocks.idle, blocks.available) == ([one], 1, 2)
