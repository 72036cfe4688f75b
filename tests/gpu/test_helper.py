"""Gradients on a GPU: timed there, on a stream of their own, and never in the way of messages."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from bench.clock import WallClock
from bench.kernel import Future, Kernel, Wait
from bench.transports.base import Computed
from bench.transports.helper import Evaluator, Helper
from tests.gpu.support import CPU, gpu, keep_busy, needs_gpu, wait_until


def evaluator(device: torch.device) -> Evaluator:
    return Evaluator(Kernel(WallClock()), device)


def test_on_a_cpu_only_the_host_is_timed() -> None:
    e = evaluator(CPU)
    assert e.mark() is None
    computed = e.run(lambda: (time.sleep(0.01), torch.tensor(2.0))[1], None)
    assert float(computed.loss) == 2.0 and computed.t1_s - computed.t0_s >= 0.01
    assert math.isnan(computed.device_s)


def test_the_helper_hands_over_results_and_errors_in_the_main_thread() -> None:
    clock = WallClock()
    helper = Helper(Evaluator(Kernel(clock), CPU), clock)
    good: Future[Computed] = Future(Wait("gradient"))
    bad: Future[Computed] = Future(Wait("gradient"))

    def fails() -> Tensor:
        raise ZeroDivisionError

    helper.submit(lambda: torch.tensor(1.0), good)
    helper.submit(fails, bad)
    delivered: list[bool] = []
    wait_until(lambda: delivered.append(helper.deliver()) or bad.done())
    assert float(good.result().loss) == 1.0
    try:
        bad.result()
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError("the error was lost")
    helper.stop()


@needs_gpu
def test_device_time_is_what_the_gpu_took() -> None:
    e = evaluator(gpu())

    def work() -> Tensor:
        keep_busy(0.05)
        return torch.ones((), device=gpu())

    e.run(work, e.mark())
    computed = e.run(work, e.mark())
    assert 0.03 < computed.device_s < 0.2
    assert computed.device_s <= computed.t1_s - computed.t0_s


@needs_gpu
def test_a_gradient_reads_what_was_enqueued_before_its_mark() -> None:
    e, x = evaluator(gpu()), torch.zeros(1 << 20, device=gpu())
    keep_busy(0.05)
    x.fill_(2.0)
    assert float(e.run(lambda: x.mean(), e.mark()).loss) == 2.0


@needs_gpu
def test_the_main_thread_copies_while_the_helper_computes() -> None:
    clock = WallClock()
    helper = Helper(Evaluator(Kernel(clock), gpu()), clock)
    v = torch.ones(1000, device=gpu())

    def work() -> Tensor:
        keep_busy(0.5)
        return torch.ones((), device=gpu())

    v.cpu()
    future: Future[Computed] = Future(Wait("gradient"))
    helper.submit(work, future)
    time.sleep(0.05)
    t0 = time.perf_counter()
    v.add_(1).cpu()
    assert time.perf_counter() - t0 < 0.2 and not helper.deliver()
    wait_until(helper.deliver)
    assert future.result().device_s > 0.3
    helper.stop()
