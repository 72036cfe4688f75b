"""A picture of a simulated run, from which another process goes on as if nothing had happened, event for event.

At hardly any moment are all ranks between two steps, and a coroutine within a step cannot be saved. So:

    1. At t0 the world is copied: queues, messages and collectives under way. The run goes on.
    2. Each rank is saved when it next stands between two steps. What it gives to the world until then, messages and its
       shares in collectives, is noted.
    3. When all ranks are saved the run ends; what they did after that is forgotten.

Restored, the world is as at t0. What was noted is given to it again, each at its time. A rank is entered at the time at
which it was saved; what reaches it before is dropped, since it is in the rank's state.

Simultaneous events happen in the order of their serial numbers, so these are restored too: the picture knows the number
that the kernel had come to before each entry, and those of the entries that woke a rank up.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.checkpoint import save
from bench.events import EventLog
from bench.kernel import Future, Wait
from bench.transports.base import Envelope, OnSent
from bench.transports.simulated import SimulatedWorld
from bench.worker import RankHandle

JOURNAL, VECTOR, TRANSPORT = "world/journal", "world/vector", "transport"

Saved = dict[str, Tensor]


class Picture:
    """Takes a picture of a run under way, from now on; make it between two instants.

    Args:
        handles: of all ranks, none of which has returned.
    """

    def __init__(self, world: SimulatedWorld, handles: Sequence[RankHandle], log: EventLog) -> None:
        self._world, self._kernel, self._log, self._handles = world, world.kernel, log, handles
        self._vectors: list[Tensor] = []
        self._journal = self._copy_of_the_world()
        self._states: dict[int, Saved] = {}
        self._rows: dict[int, int] = {}  # rank -> rows of the log by the time it was saved
        self._entry = -1.0  # the order of the present one
        self._entries: list[tuple[float, int]] = []  # order, and the serial number that the kernel had come to
        self._woken: dict[tuple[float, int], list[int]] = defaultdict(list)  # in an entry, a rank: by such entries
        self._actions: list[list[Any]] = []
        log.spill_at, log.capacity = float("inf"), 1 << 62  # for about a step
        self._call_at = self._kernel.call_at
        self._kernel.tell(self._begins)
        # On the instances, so that runs without a picture pay nothing.
        self._kernel.call_at = self._noting_call_at  # type: ignore[method-assign]
        self._post, self._join = world.post, world.join
        world.post, world.join = self._noting_post, self._noting_join  # type: ignore[method-assign]
        for handle in handles:
            if not handle.is_server:
                handle.hold(self._between_steps)
        self._look_at_servers()

    def is_complete(self) -> bool:
        """Whether all ranks are saved."""
        return len(self._states) == len(self._handles)

    def states(self) -> list[Saved]:
        """The picture, by rank, when it is complete; to be asked for once. Rows that come again leave the log."""
        rows = self._log.rows
        self._log.rows = [row for number, row in enumerate(rows) if number < self._rows[row[0]]]
        self._journal["entries"] = self._entries
        self._journal["woken"] = [[*key, serials] for key, serials in self._woken.items()]
        self._journal["actions"] = self._actions
        text = torch.frombuffer(bytearray(json.dumps(self._journal).encode()), dtype=torch.uint8)
        world = {JOURNAL: text} | {f"{VECTOR}/{k}": v for k, v in enumerate(self._vectors)}
        return [self._states[rank] | (world if rank == 0 else {}) for rank in range(len(self._handles))]

    # -- the world at t0 --

    def _copy_of_the_world(self) -> dict[str, Any]:
        world, kernel = self._world, self._kernel
        due: list[list[Any]] = []
        for time_s, order, call, arguments in kernel.pending():
            if call in (world._arrive, world._deliver):
                (link,) = arguments
                due.append([time_s, order, call.__name__, link.src, link.dst])
            elif call == world._end:
                members, end_s = arguments
                shares = [[rank, label, self._keep(v)] for rank, (label, v, _) in enumerate(members)]
                due.append([time_s, order, call.__name__, shares, end_s])
        links: list[list[Any]] = []
        for link in (link for of_sender in world._links for link in of_sender.values() if link.heads or link.tails):
            heads = [[self._letter(envelope), *times] for envelope, *times in link.heads]
            links.append([link.src, link.dst, heads, [self._letter(envelope) for envelope in link.tails]])
        return {
            "now": kernel.now(),
            "count": kernel.counted(),
            "free": [list(world._out_free_s), list(world._in_free_s), world._collective_free_s],
            "links": links,
            "due": due,
            "collectives": [
                [*index, [[rank, label, self._keep(v)] for rank, (label, v, _) in collective.joined.items()]]
                for index, collective in world.collectives.items()
            ],
            "agreements": [[n, list(world.agreements[n])] for n, _ in world.collectives if n in world.agreements],
        }

    def _keep(self, v: Tensor | None) -> int | None:
        """The number under which a copy of a vector is saved."""
        if v is None:
            return None
        self._vectors.append(v.detach().clone().contiguous())
        return len(self._vectors) - 1

    def _letter(self, e: Envelope) -> list[Any]:
        return [e.kind, e.tag, e.ident, self._keep(e.data), e.src, e.sent_s]

    # -- what happens from then on --

    def _begins(self, order: float) -> None:
        self._look_at_servers()  # after the entry before
        self._entry = order
        self._entries.append((order, self._kernel.counted()))

    def _noting_call_at(self, time_s: float, call: Callable[..., None], *arguments: Any) -> None:
        if call == self._kernel._resume:
            self._woken[self._entry, arguments[0].rank].append(self._kernel.counted())
        self._call_at(time_s, call, *arguments)

    def _noting_post(self, src: int, dst: int, envelope: Envelope, on_sent: OnSent) -> None:
        if src not in self._states:
            self._note("post", dst, self._letter(envelope))
        self._post(src, dst, envelope, on_sent)

    def _noting_join(self, index: tuple[int, int], rank: int, label: str, vector: Tensor | None) -> Future[float]:
        if rank not in self._states:
            agreed = self._world.agreements[index[0]][-1] if vector is None else None
            self._note("join", *index, rank, label, self._keep(vector), agreed)
        return self._join(index, rank, label, vector)

    def _note(self, *what: Any) -> None:
        self._actions.append([self._entry, self._kernel.now(), self._kernel.counted(), *what])

    def _between_steps(self, handle: RankHandle) -> None:
        if handle.rank in self._states or handle.overlapped() is None:
            return
        handle.boundary = None
        self._save(handle)

    def _look_at_servers(self) -> None:
        for handle in self._handles[self._world.size :]:
            if handle.rank not in self._states and handle.overlapped() == {}:
                self._save(handle)

    def _save(self, handle: RankHandle) -> None:
        handle.settle()
        rank, transport = handle.rank, self._world.transports[handle.rank]
        self._states[rank] = save(handle) | {
            TRANSPORT: torch.tensor([transport.times.drawn, transport._collectives]),
            "busy-until": torch.tensor(transport._computes_until_s, dtype=torch.float64),
        }
        self._rows[rank] = len(self._log.rows)
        self._woken.pop((self._entry, rank), None)  # by what it did in this entry before it was saved
        self._note("enter", rank, [list(pair) for pair in (handle.overlapped() or {}).items()])


class Replay:
    """Puts a fresh simulation, whose ranks' states are restored, where a picture was taken."""

    def __init__(
        self, world: SimulatedWorld, handles: Sequence[RankHandle], saved: Sequence[Mapping[str, Tensor]]
    ) -> None:
        self._world, self._kernel, self._handles = world, world.kernel, handles
        self._journal: dict[str, Any] = json.loads(saved[0][JOURNAL].numpy().tobytes().decode())
        self._vectors = {name: v for name, v in saved[0].items() if name.startswith(VECTOR)}
        self._counts = {order: count for order, count in self._journal["entries"]}
        self._woken = {(order, rank): deque(serials) for order, rank, serials in self._journal["woken"]}
        self._joined: dict[tuple[int, str], tuple[Future[float], Tensor | None]] = {}  # by ranks not entered yet
        self._entry, self.is_over = -1.0, False
        for transport, state in zip(world.transports, saved, strict=True):
            drawn, transport._collectives = state[TRANSPORT].tolist()
            transport.times.seek(drawn)
            transport._computes_until_s = float(state["busy-until"])

    @property
    def now_s(self) -> float:
        """When the picture was begun."""
        return float(self._journal["now"])

    def begin(self, start: Callable[[RankHandle], None]) -> None:
        """Make everything due that was; `start` is to start the coroutine of a rank."""
        world, kernel, journal = self._world, self._kernel, self._journal
        self._start = start
        self._receivers = [transport.receive for transport in world.transports]
        for transport in world.transports:
            transport.receive = _drop
        world._out_free_s, world._in_free_s, world._collective_free_s = journal["free"]
        for src, dst, heads, tails in journal["links"]:
            link = world._connect(src, dst)
            link.heads.extend((self._envelope(letter), *times) for letter, *times in heads)
            link.tails.extend(map(self._envelope, tails))
            world.in_flight += len(heads) + len(tails)
        for time_s, order, call, *what in journal["due"]:
            if call == world._end.__name__:
                shares, end_s = what
                kernel.put(time_s, order, world._end, [self._share(*share) for share in shares], end_s)
                world.in_flight += len(shares)
            else:
                kernel.put(time_s, order, getattr(world, call), world._links[what[0]][what[1]])
        for number, bucket, shares in journal["collectives"]:
            collective = world.collectives[number, bucket]
            collective.joined = {share[0]: self._share(*share) for share in shares}
            world.in_flight += len(shares)
        for number, values in journal["agreements"]:
            world.agreements[number] = values
        kernel.count_from(journal["count"])
        kernel.tell(self._begins)
        self._call_at = kernel.call_at
        kernel.call_at = self._numbering_call_at  # type: ignore[method-assign]
        groups: dict[float, list[list[Any]]] = defaultdict(list)
        for order, *action in journal["actions"]:
            groups[order].append(action)
        self._last = next(reversed(groups))
        for order, actions in groups.items():
            if order < 0:  # before the first entry
                self._play(order, actions)
            else:  # after what the world itself does in this entry
                kernel.put(actions[0][0], order + 0.5, self._play, order, actions)

    def _begins(self, order: float) -> None:
        if not self.is_over and order in self._counts:
            self._entry = order
            self._kernel.count_from(self._counts[order])

    def _numbering_call_at(self, time_s: float, call: Callable[..., None], *arguments: Any) -> None:
        if call == self._kernel._resume and (woken := self._woken.get((self._entry, arguments[0].rank))):
            self._kernel.count_from(woken.popleft())
        self._call_at(time_s, call, *arguments)

    def _play(self, order: float, actions: Sequence[Sequence[Any]]) -> None:
        self._entry = order
        for _, count, kind, *what in actions:
            self._kernel.count_from(count)
            getattr(self, f"_{kind}")(*what)
        if order == self._last:
            self.is_over = True
            self._kernel.tell(None)
            self._kernel.call_at = self._call_at  # type: ignore[method-assign]

    # -- what was noted --

    def _post(self, dst: int, letter: Sequence[Any]) -> None:
        envelope = self._envelope(letter)
        self._world.post(envelope.src, dst, envelope, lambda _: None)

    def _join(self, number: int, bucket: int, rank: int, label: str, vector: int | None, agreed: float | None) -> None:
        if agreed is not None:
            self._world.agreements[number].append(agreed)
        v = self._vector(vector)
        self._joined[rank, label] = self._world.join((number, bucket), rank, label, v), v

    def _enter(self, rank: int, overlapped: Sequence[tuple[str, float]]) -> None:
        self._world.transports[rank].receive = self._receivers[rank]
        handle = self._handles[rank]
        for label, joined_s in overlapped:
            end_s, v = self._joined[rank, label]
            assert v is not None
            handle.rejoin(label, joined_s, end_s, v)
        self._start(handle)

    def _share(self, rank: int, label: str, vector: int | None) -> tuple[str, Tensor | None, Future[float]]:
        end_s: Future[float] = Future(Wait("allreduce", label))
        v = self._vector(vector)
        self._joined[rank, label] = end_s, v
        return label, v, end_s

    def _envelope(self, letter: Sequence[Any]) -> Envelope:
        kind, tag, ident, vector, src, sent_s = letter
        v = self._vector(vector)
        assert v is not None
        return Envelope(kind, tag, ident, v, src, sent_s)

    def _vector(self, number: int | None) -> Tensor | None:
        return None if number is None else self._vectors[f"{VECTOR}/{number}"].clone()


def _drop(envelope: Envelope) -> None:
    """What a rank receives before it is entered is in its state."""
