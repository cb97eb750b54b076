"""Y = X W^T, dX and dW as PyTorch computes them (cuBLAS, oneDNN), all in one type."""

from collections.abc import Iterator

from need_torch import torch
from timing import Row, measure
from torch.nn import functional as F

# Rows (tokens), out, in: those of bench/cuda/products.ts, and the CPU's of issue 4.
CUDA_SHAPES = [
    (401408, 192, 96),
    (401408, 384, 96),
    (401408, 96, 384),
    (401408, 96, 192),
    (401408, 192, 192),
    (401408, 16, 192),
    (100352, 768, 192),
    (100352, 192, 768),
    (25088, 1536, 384),
    (25088, 384, 1536),
    (6272, 3072, 768),
    (6272, 768, 3072),
    (8192, 8192, 8192),
]
CPU_SHAPES = [
    (512, 512, 512),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (50176, 96, 48),
    (50176, 192, 48),
    (12544, 384, 96),
    (3136, 768, 192),
    (4096, 192, 48),
]


def product_rows(device: str) -> Iterator[Row]:
    if device == "cpu":
        for shape in CPU_SHAPES:
            yield from product_case(shape, torch.float32, device)
        return
    for dtype in (torch.bfloat16, torch.float32):
        for shape in CUDA_SHAPES:
            if dtype == torch.bfloat16 or shape[0] <= 25088 or shape[0] == 401408:
                yield from product_case(shape, dtype, device)


def product_case(shape: tuple[int, int, int], dtype: torch.dtype, device: str) -> Iterator[Row]:
    rows, out, inner = shape

    def random(*size: int) -> torch.Tensor:
        return (0.1 * torch.randn(size, device=device)).to(dtype)

    x, dy, weight, bias = random(rows, inner), random(rows, out), random(out, inner), random(out)
    what = f"{rows} x {out} x {inner} {str(dtype).removeprefix('torch.')}"

    def time(name: str, fn) -> Row:
        return measure("products", f"{name} {what}", fn, device, 2 * rows * out * inner)

    yield time("linear", lambda: F.linear(x, weight, bias))
    yield time("  dx", lambda: dy @ weight)
    yield time("  dw", lambda: dy.t() @ x)
    if inner > out and inner % out == 0:
        g = F.gelu(x)  # PyTorch keeps it for dW
        yield time("gelu + linear", lambda: F.linear(F.gelu(x), weight, bias))
        yield time("  dx gelu'", lambda: torch.ops.aten.gelu_backward(dy @ weight, x))
        yield time("  dw gelu", lambda: dy.t() @ g)
    if device == "cpu" and out > inner:
        yield time("linear + gelu", lambda: F.gelu(F.linear(x, weight, bias)))
        h, down, down_bias = random(rows, out), random(inner, out), random(inner)
        what = f"{rows} x {inner} x {out} float32"
        yield time("gelu + linear", lambda: F.linear(F.gelu(h), down, down_bias))
