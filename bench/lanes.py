"""Simulated work in several processes at once: it measures no real time, so every core may be used.

What is asked for is a study's table, which any process can resolve for itself; one table stands for one run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

from bench.budget import LOOK_S
from bench.interruption import ASKED
from bench.launch import cores, is_complete
from bench.pace import Pace, pace, steps_for
from bench.study import Cell, resolve

A = TypeVar("A")
T = TypeVar("T")


class Lanes:
    """A pool of processes; with one lane everything is done here.

    Args:
        count: how many; None: as many as there are cores.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = cores() if count is None else count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Lanes:
        if self.count > 1:
            # Fresh processes: a copy of this one, with torch's threads in it, may hang.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self.count, mp_context=context, initializer=_begin, initargs=(os.getpid(),)
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is not None:
            if kind is not None:  # nobody waits for what they do any more
                for process in multiprocessing.active_children():
                    process.terminate()
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def work_off(self, function: Callable[[A], T], arguments: Sequence[A]) -> Iterator[tuple[A, T]]:
        """Each argument with its result, in the order in which they get ready.

        Raises:
            Interrupted: a scheduler wants us to stop.
        """
        if self._pool is None:
            for argument in arguments:
                ASKED.obey()
                yield argument, function(argument)
            return
        futures = {self._pool.submit(function, argument): argument for argument in arguments}
        waiting = set(futures)
        try:
            while waiting:
                ASKED.obey()
                ready, waiting = wait(waiting, LOOK_S, FIRST_COMPLETED)
                for future in ready:
                    yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()


def _begin(parent: int) -> None:
    """A process of the pool: one thread, and no life after its parent, should that be killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal all get it; the parent ends us, and says so once
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def only_cell(table: Mapping[str, Any]) -> Cell:
    """The one run of a table.

    Raises:
        StudyError: the table cannot be used, or stands for several runs.
    """
    (cell,) = resolve(table, where="run").cells()
    return cell


def run(asked: tuple[Mapping[str, Any], Path]) -> float:
    """Run a table's one run and write its tables into a results folder; one that is complete there is not repeated.

    Returns:
        Real seconds that it took; 0 if it was there.
    """
    from bench.run import run_cell, write_crashed

    table, out = asked
    cell, since = only_cell(table), time.perf_counter()
    if is_complete(out, cell.run_id) is not None:
        return 0.0
    try:
        run_cell(cell, out, world=None)
    except Exception as error:
        write_crashed(cell, out, f"{type(error).__name__}: {error}", traceback.format_exc())
    return time.perf_counter() - since


def time_it(asked: tuple[Mapping[str, Any], int]) -> Pace:
    """The pace of a table's one run over that many steps of each worker; 0 steps: as many as its algorithm needs."""
    table, steps = asked
    cell = only_cell(table)
    return pace(cell, steps_for(cell, steps))
