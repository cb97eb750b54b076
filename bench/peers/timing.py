"""
Times of PyTorch calls in milliseconds. On the GPU: device events, L2 flushed before every
repetition. On the CPU: the host's clock. Medians of 20 after 3 warm-ups; whole steps are the host's
clock around a step and a wait, 15 after 5.
"""

import resource
from collections.abc import Callable
from functools import cache
from time import perf_counter

from need_torch import torch

WARM_UP, REPETITIONS = 3, 20
WARM_UP_STEPS, STEPS = 5, 15
FLUSH_BYTES = 256 * 2**20
QUEUE_CYCLES = 1_000_000  # half a millisecond for the host to get ahead: only the device counts

Row = dict[str, object]
Call = Callable[[], object]


def row(group: str, name: str, times: list[float], **more: object) -> Row:
    """A row as bench/cuda writes it."""
    ms, p10, p90 = (
        torch.tensor(times, dtype=torch.float64).quantile(q).item() for q in (0.5, 0.1, 0.9)
    )
    return {"group": group, "name": name, "ms": ms, "p10": p10, "p90": p90, **more}


def measure(
    group: str, name: str, fn: Call, device: str, flops: int | None = None, inner: int = 1
) -> Row:
    """`inner`: calls in one repetition, for what is shorter than the host's clock."""
    for _ in range(WARM_UP):
        fn()
    if device == "cuda":
        times = on_gpu(fn)
    else:
        times = [on_host(fn, inner) for _ in range(REPETITIONS)]
    return row(group, name, times, **({} if flops is None else {"flops": flops}))


def on_host(fn: Call, calls: int = 1) -> float:
    begin = perf_counter()
    for _ in range(calls):
        fn()
    return 1000 * (perf_counter() - begin) / calls


@cache
def flush_buffer() -> torch.Tensor:
    return torch.empty(FLUSH_BYTES // 4, device="cuda")


def on_gpu(fn: Call) -> list[float]:
    events = []
    for _ in range(REPETITIONS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(QUEUE_CYCLES)
        flush_buffer().zero_()
        begin.record()
        fn()
        end.record()
        events.append((begin, end))
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) for begin, end in events]


def measure_steps(group: str, name: str, step: Call, device: str, images: int) -> Row:
    """peakBytes: what was allocated at most; on the CPU, what the process ever held."""

    def run() -> None:
        step()
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(WARM_UP_STEPS):
        run()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = [on_host(run) for _ in range(STEPS)]
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return row(group, name, times, images=images, peakBytes=peak)
