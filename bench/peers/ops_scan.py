"""
The selective scan; rows of bench/cuda/scan.ts. What our kernel reads through an order and merges is
here built with flips and stacks and summed, as the published code does.
"""

from collections.abc import Iterator

from need_torch import torch
from scans import Scan
from timing import Row, measure

# What, batch, groups, channels of a group, length, states.
CUDA_SHAPES = [
    ("stage 1 small ", 128, 2, 192, 3136, 1),
    ("stage 2 small ", 128, 2, 384, 784, 1),
    ("stage 3 small ", 128, 4, 768, 196, 1),
    ("stage 4 small ", 128, 4, 1536, 49, 1),
    ("stage 1 tiny ", 128, 2, 64, 3136, 1),
    ("vmamba ", 64, 4, 192, 3136, 16),
    ("mamba ", 8, 1, 2048, 2048, 16),
]
CPU_SHAPES = [("", 8, 2, 48, 3136, 1), ("", 8, 4, 192, 196, 1), ("", 2, 4, 96, 1024, 16)]


def scan_rows(device: str, scan: Scan) -> Iterator[Row]:
    cuda = device == "cuda"
    for shape in CUDA_SHAPES if cuda else CPU_SHAPES:
        for dtype in (torch.bfloat16, torch.float32) if cuda else (torch.float32,):
            yield from scan_case(shape, dtype, device, scan, merged=False)
            if shape[2] > 1 and shape[5] == 1:
                yield from scan_case(shape, dtype, device, scan, merged=True)


def scan_case(shape, dtype: torch.dtype, device: str, scan: Scan, merged: bool) -> Iterator[Row]:
    name, batch, groups, channels, length, states = shape
    rows = groups * channels

    def random(*size: int, of: torch.dtype = dtype) -> torch.Tensor:
        return torch.randn(size, device=device).to(of)

    u = random(batch, channels if merged else rows, length)
    others = (
        random(batch, rows, length) * 0.5,
        -random(rows, states, of=torch.float32).abs(),
        random(batch, groups, states, length),
        random(batch, groups, states, length),
        random(rows, of=torch.float32),
        random(rows, of=torch.float32),
    )
    leaves = [t.requires_grad_() for t in (u, *others)]

    def forward() -> torch.Tensor:
        return all_directions(scan, groups, leaves) if merged else scan(*leaves)

    def without_grad() -> torch.Tensor:
        with torch.no_grad():
            return forward()

    kind = str(dtype).removeprefix("torch.") + (", ordered and merged" if merged else "")
    what = f"{name}{batch} x ({groups} x {channels}) x {length}, N {states}, {kind}"
    yield measure("scan", f"forward {what}", without_grad, device)
    y = forward()
    dy = random(*y.shape)

    def backward() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(y, leaves, dy, retain_graph=True)

    yield measure("scan", f"backward {what}", backward, device)
    if device == "cpu":

        def both() -> tuple[torch.Tensor, ...]:
            return torch.autograd.grad(forward(), leaves, dy)

        yield measure("scan", f"forward + backward {what}", both, device)


def all_directions(scan: Scan, groups: int, leaves: list[torch.Tensor]) -> torch.Tensor:
    """Forward and reversed reading of u by turns, the results summed on their tokens."""
    u, *others = leaves
    xs = torch.stack([u, u.flip(-1)], dim=1).repeat(1, groups // 2, 1, 1)
    ys = scan(xs.flatten(1, 2), *others).view(xs.shape)
    return ys[:, ::2].sum(1) + ys[:, 1::2].sum(1).flip(-1)
