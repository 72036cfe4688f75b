"""The mailbox against a model that is too simple to be wrong: lists, searched from the front."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.interface import Message
from bench.kernel import Future
from bench.mailbox import Mailbox

Put = tuple[str, int, str]  # "put", src, tag
Take = tuple[str, int | None, str]  # "take", src or anyone, tag

SOURCES, TAGS = st.integers(0, 2), st.sampled_from(["model", "gradient"])
puts = st.tuples(st.just("put"), SOURCES, TAGS)
takes = st.tuples(st.just("take"), SOURCES | st.none(), TAGS)


class Model:
    """Messages in order of arrival, receivers in order of asking."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, int, str]] = []  # number, src, tag
        self.receivers: list[tuple[int, int | None, str]] = []  # number, src, tag
        self.got: dict[int, int] = {}  # receiver -> message

    def put(self, number: int, src: int, tag: str) -> None:
        for receiver in self.receivers:
            if receiver[2] == tag and receiver[1] in (None, src):
                self.receivers.remove(receiver)
                self.got[receiver[0]] = number
                return
        self.messages.append((number, src, tag))

    def take(self, number: int, src: int | None, tag: str) -> None:
        for message in self.messages:
            if message[2] == tag and src in (None, message[1]):
                self.messages.remove(message)
                self.got[number] = message[0]
                return
        self.receivers.append((number, src, tag))


@settings(max_examples=300)
@given(st.lists(puts | takes, max_size=40))
def test_every_receiver_gets_what_the_model_gives_it(operations: list[Put | Take]) -> None:
    box, model = Mailbox(), Model()
    futures: dict[int, Future[Message]] = {}
    for number, (what, src, tag) in enumerate(operations):
        if what == "put":
            assert src is not None
            box.put(Message(torch.tensor(number), src, tag))
            model.put(number, src, tag)
        else:
            futures[number] = box.take(tag, src)
            model.take(number, src, tag)
        got = {n: int(future.result().data) for n, future in futures.items() if future.done()}
        assert got == model.got
        assert box.depth == len(model.messages)
    for number, future in futures.items():
        if future.done():  # the envelope's own words are kept
            message, (_, src, tag) = future.result(), operations[number]
            assert message.tag == tag and src in (None, message.src)
            assert operations[int(message.data)][1:] == (message.src, message.tag)


@given(st.lists(SOURCES, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_order_per_source_and_tag_is_kept_however_it_is_taken(sources: list[int], random: object) -> None:
    box = Mailbox()
    for number, src in enumerate(sources):
        box.put(Message(torch.tensor(number), src, "t"))
    taken: list[tuple[int, int]] = []
    for _ in sources:
        waiting = sorted({src for number, src in enumerate(sources) if number not in {n for n, _ in taken}})
        src = random.choice([None, *waiting])  # type: ignore[attr-defined]
        message = box.take("t", src).result()
        taken.append((int(message.data), message.src))
    assert box.depth == 0
    for src in set(sources):
        mine = [number for number, s in taken if s == src]
        assert mine == sorted(mine)


def test_no_source_starves_another() -> None:
    box = Mailbox()
    for number in range(100):
        box.put(Message(torch.tensor(number), 0, "t"))
        if number == 10:
            box.put(Message(torch.tensor(-1), 7, "t"))
    order = [box.take("t", None).result().src for _ in range(101)]
    assert order.index(7) == 11  # as it came, though source 0 always has a message ready


def test_a_waiting_receiver_takes_the_message_before_it_is_kept() -> None:
    box = Mailbox()
    future = box.take("t", 3)
    assert (future.wait.what, future.wait.label, future.wait.peer) == ("recv", "t", 3)
    box.put(Message(torch.tensor(0), 2, "t"))  # another source
    assert not future.done() and box.depth == 1
    box.put(Message(torch.tensor(1), 3, "t"))
    assert future.done() and box.depth == 1


@pytest.mark.parametrize("src", [None, 0])
def test_a_tag_does_not_see_another(src: int | None) -> None:
    box = Mailbox()
    box.put(Message(torch.tensor(0), 0, "a"))
    assert not box.take("b", src).done() and box.take("a", src).done()
