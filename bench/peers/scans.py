"""
The selective scan that a PyTorch user has: the published CUDA kernels where they are installed,
else a stand-in of our own (Triton on the GPU, C++ on the CPU), else a plain loop. All take
    u, delta       [batch, groups x channels, length]
    A              [groups x channels, states]
    B, C           [batch, groups, states, length]
    D, delta_bias  [groups x channels]
and give y in the shape and type of u: with dt = softplus(delta + delta_bias),
    h_t = exp(dt_t A) h_(t-1) + dt_t B_t u_t,   y_t = <C_t, h_t> + D u_t.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from need_torch import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def choose_scan(device: str) -> tuple[str, Scan]:
    """The best scan there is, and what to call it in results."""
    makers = (oflex, mamba, triton_stand_in) if device == "cuda" else (cpp_stand_in,)
    reasons = []
    for make in makers:
        try:
            return make()
        except Exception as error:  # no package, no compiler: the next one serves
            reasons.append(f"{make.__name__}: {(str(error) or repr(error)).splitlines()[0]}")
    return f"plain loop, NOT a fair peer ({'; '.join(reasons)})", plain_scan


def plain_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor
) -> Tensor:
    """The oracle: the formula, step by step."""
    wide = torch.promote_types(u.dtype, torch.float32)
    x, delta, B, C = (t.to(wide) for t in (u, delta, B, C))
    step = F.softplus(delta + delta_bias[:, None]).unsqueeze(-1)  # [batch, channels, length, 1]
    B, C = (t.repeat_interleave(u.shape[1] // t.shape[1], dim=1).transpose(2, 3) for t in (B, C))
    decay, drive = torch.exp(step * A[:, None]), step * B * x.unsqueeze(-1)
    h, states = torch.zeros_like(drive[:, :, 0]), []
    for a, b in zip(decay.unbind(2), drive.unbind(2)):
        h = a * h + b
        states.append(h)
    return ((torch.stack(states, dim=2) * C).sum(-1) + D[:, None] * x).to(u.dtype)


def oflex() -> tuple[str, Scan]:
    import selective_scan_cuda_oflex as kernels

    class OflexScan(Function):
        @staticmethod
        def forward(ctx, *inputs: Tensor) -> Tensor:
            inputs = tuple(t.contiguous() for t in inputs)
            y, states, *_ = kernels.fwd(*inputs, True, 1, False)
            ctx.save_for_backward(*inputs, states)
            return y

        @staticmethod
        def backward(ctx, dy: Tensor):
            *inputs, states = ctx.saved_tensors
            return tuple(kernels.bwd(*inputs, dy.contiguous(), states, True, 1)[:7])

    return "selective_scan_cuda_oflex (VMamba's kernels)", OflexScan.apply


def mamba() -> tuple[str, Scan]:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    def scan(u, delta, A, B, C, D, delta_bias):
        B, C = B.contiguous(), C.contiguous()
        return selective_scan_fn(u, delta, A, B, C, D, delta_bias=delta_bias, delta_softplus=True)

    return "selective_scan_cuda (mamba_ssm)", scan


def triton_stand_in() -> tuple[str, Scan]:
    from scan_triton import triton_scan

    return "Triton stand-in of ours for the published kernels (neither is installed)", triton_scan


@cache
def cpp_kernels():
    from torch.utils.cpp_extension import load

    flags = ["-O3", "-march=native", "-ffast-math", "-fopenmp"]
    source = Path(__file__).with_name("scan.cpp")
    links = ["-fopenmp"]
    return load("quadmamba_peer_scan", [str(source)], extra_cflags=flags, extra_ldflags=links)


class CppScan(Function):
    @staticmethod
    def forward(ctx, *inputs: Tensor) -> Tensor:
        inputs = tuple(t.contiguous() for t in inputs)
        ctx.save_for_backward(*inputs)
        return cpp_kernels().forward(*inputs)

    @staticmethod
    def backward(ctx, dy: Tensor):
        return tuple(cpp_kernels().backward(dy.contiguous(), *ctx.saved_tensors))


def cpp_stand_in() -> tuple[str, Scan]:
    cpp_kernels()

    def scan(u: Tensor, *others: Tensor) -> Tensor:
        wide = torch.promote_types(u.dtype, torch.float32)
        return CppScan.apply(*(t.to(wide) for t in (u, *others))).to(u.dtype)

    return "C++ stand-in of ours (no CPU kernel is published)", scan
