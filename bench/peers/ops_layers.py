"""
Norms, convolutions and elementwise calls as PyTorch computes them, channels last (cuDNN, oneDNN).
Rows of bench/cuda/layers.ts, and the depthwise convolution without its SiLU.
"""

from collections.abc import Iterator

from need_torch import torch
from timing import Row, measure
from torch.nn import functional as F

# Side, channels; and side, from, to. Those of bench/cuda/layers.ts, and the CPU's of issue 4.
CUDA_MAPS = [(56, 96), (56, 192), (28, 384), (14, 768), (7, 1536)]
CUDA_CONVS = [(224, 3, 48), (112, 48, 96), (56, 96, 192), (28, 192, 384), (14, 384, 768)]
CPU_MAPS = [(56, 48), (56, 192)]
CPU_CONVS = [(224, 3, 24), (112, 24, 48), (56, 48, 96)]

aten = torch.ops.aten


def layer_rows(device: str) -> Iterator[Row]:
    cuda = device == "cuda"
    batch = 128 if cuda else 8
    for dtype in (torch.bfloat16, torch.float32) if cuda else (torch.float32,):
        for side, channels in CUDA_MAPS if cuda else CPU_MAPS:
            yield from map_case(batch, side, channels, dtype, device)
        for shape in CUDA_CONVS if cuda else CPU_CONVS:
            yield from conv_case(batch, shape, dtype, device)
    if not cuda:
        yield from row_cases()


def random(size: tuple[int, ...], dtype: torch.dtype, device: str) -> torch.Tensor:
    """A map [batch, channels, height, width] has its channels last in memory."""
    x = (0.3 * torch.randn(size, device=device)).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if len(size) == 4 else x


def conv_backward(dy, x, kernel, stride: int, groups: int, wanted: tuple[bool, bool]):
    shape = ([stride, stride], [1, 1], [1, 1], False, [0, 0], groups)  # padding, dilation: 1
    return aten.convolution_backward(dy, x, kernel, None, *shape, [*wanted, False])


def map_case(batch: int, side: int, channels: int, dtype, device: str) -> Iterator[Row]:
    size = (batch, channels, side, side)
    x, dy = random(size, dtype, device), random(size, dtype, device)
    rows, drows = x.permute(0, 2, 3, 1), dy.permute(0, 2, 3, 1)
    weight, bias = random((channels,), dtype, device), random((channels,), dtype, device)
    kernel = random((channels, 1, 3, 3), dtype, device)
    what = f"{side} x {side} x {channels} {str(dtype).removeprefix('torch.')}"

    def time(name: str, fn) -> Row:
        return measure("layers", f"{name} {what}", fn, device)

    def depthwise() -> torch.Tensor:
        return F.conv2d(x, kernel, padding=1, groups=channels)

    _, mean, rstd = aten.native_layer_norm(rows, [channels], weight, bias, 1e-5)
    saved = (rows, [channels], mean, rstd, weight, bias)
    yield time("layer norm", lambda: F.layer_norm(rows, [channels], weight, bias))
    yield time("  backward", lambda: aten.native_layer_norm_backward(drows, *saved, [True] * 3))
    before_silu = depthwise()
    yield time("depthwise 3x3 + silu", lambda: F.silu(depthwise()))

    def depthwise_silu_backward():
        dz = aten.silu_backward(dy, before_silu)
        return conv_backward(dz, x, kernel, 1, channels, (True, True))

    yield time("  backward", depthwise_silu_backward)
    yield time("depthwise 3x3", depthwise)
    yield time("  dx", lambda: conv_backward(dy, x, kernel, 1, channels, (True, False)))
    yield time("  dw", lambda: conv_backward(dy, x, kernel, 1, channels, (False, True)))
    yield time("add", lambda: x + dy)
    yield time("bias gradient", lambda: drows.sum((0, 1, 2)))


def conv_case(batch: int, shape: tuple[int, int, int], dtype, device: str) -> Iterator[Row]:
    side, inputs, outputs = shape
    x = random((batch, inputs, side, side), dtype, device)
    dy = random((batch, outputs, side // 2, side // 2), dtype, device)
    kernel = random((outputs, inputs, 3, 3), dtype, device)
    bias = random((outputs,), dtype, device)
    what = f"{inputs} -> {outputs} at {side} {str(dtype).removeprefix('torch.')}"

    def time(name: str, fn) -> Row:
        flops = 2 * dy.numel() * inputs * 9
        return measure("layers", f"{name} {what}", fn, device, flops)

    yield time("conv 3x3 / 2", lambda: F.conv2d(x, kernel, bias, stride=2, padding=1))
    yield time("  dx", lambda: conv_backward(dy, x, kernel, 2, 1, (True, False)))
    yield time("  dw", lambda: conv_backward(dy, x, kernel, 2, 1, (False, True)))


def row_cases() -> Iterator[Row]:
    """Norm, GELU, loss and optimiser on the CPU; rows of bench/ops/layers.ts."""

    def time(name: str, fn) -> Row:
        return measure("layers", f"{name} float32", fn, "cpu")

    x, dy = torch.randn(25088, 96), torch.randn(25088, 96)
    weight, bias = torch.randn(96), torch.randn(96)
    _, mean, rstd = aten.native_layer_norm(x, [96], weight, bias, 1e-5)
    saved = (x, [96], mean, rstd, weight, bias)
    yield time("layer norm 25088 x 96", lambda: F.layer_norm(x, [96], weight, bias))

    def norm_backward():
        return aten.native_layer_norm_backward(dy, *saved, [True] * 3)

    yield time("  backward 25088 x 96", norm_backward)

    h, dh = torch.randn(25088, 384), torch.randn(25088, 384)
    yield time("gelu 25088 x 384", lambda: F.gelu(h))
    yield time("  backward 25088 x 384", lambda: aten.gelu_backward(dh, h))

    logits = torch.randn(128, 1000)
    labels = torch.arange(128) * 37 % 1000
    yield time("cross-entropy 128 x 1000", lambda: F.cross_entropy(logits, labels))
    leaf = logits.clone().requires_grad_()

    def loss_and_gradient():
        return torch.autograd.grad(F.cross_entropy(leaf, labels), leaf)

    yield time("cross-entropy forward + backward 128 x 1000", loss_and_gradient)

    for pieces in (1, 200):
        parameters = [torch.randn(10_000_000 // pieces, requires_grad=True) for _ in range(pieces)]
        for p in parameters:
            p.grad = 0.01 * torch.randn_like(p)
        optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.05, fused=True)
        yield time(f"adamw 10000000 in {pieces}", optimizer.step)
