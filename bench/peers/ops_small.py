"""Functions of one number, and what a call costs: rows of bench/ops/functions.ts and dispatch.ts."""

from collections.abc import Iterator

from need_torch import torch
from timing import Row, measure
from torch.nn import functional as F

ELEMENTS = 2**16
CALLS = 100

FUNCTIONS = {
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
}


def function_rows() -> Iterator[Row]:
    x = torch.randn(ELEMENTS).abs() + 0.1
    for name, fn in FUNCTIONS.items():
        yield measure("functions", f"{name} {ELEMENTS} float32", lambda: fn(x), "cpu", inner=10)


def dispatch_rows() -> Iterator[Row]:
    x, y = torch.randn(1), torch.randn(1)
    leaf = torch.randn(1, requires_grad=True)

    def time(name: str, fn) -> Row:
        return measure("dispatch", f"{name} of 1 element", fn, "cpu", inner=CALLS)

    yield time("neg", lambda: torch.neg(x))
    yield time("add", lambda: torch.add(x, y))
    name = "add of 1 element, recorded for backward"
    yield measure("dispatch", name, lambda: torch.add(leaf, y), "cpu", inner=CALLS)
