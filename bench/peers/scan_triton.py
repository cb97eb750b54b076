"""
Selective scan as Triton kernels of our own: what one would write for a fair comparison where the
published CUDA kernels are not installed. One program owns one sample and a block of channels of one
group, and walks the length tile by tile: loads along the length, a scan in registers inside the
tile, the state carried on. Recurrences in float32.

Shapes as in scans.py. The forward keeps the state before every tile [batch, channels, tiles,
states], and the backward recomputes the rest. dB and dC are summed over the blocks of a group with
atomics, as the published kernels do; dA, dD and ddelta_bias are written for each sample and summed
afterwards.
"""

import triton
import triton.language as tl
from need_torch import torch
from torch import Tensor
from torch.autograd import Function

MAX_TILE = 64
ELEMENTS = 512  # channels x states x tile of a program: 4 for each of its 128 threads


@triton.jit
def combine(decay_1, drive_1, decay_2, drive_2):
    return decay_1 * decay_2, decay_2 * drive_1 + drive_2


@triton.jit
def softplus(x):
    e = tl.exp(tl.minimum(x, 20.0))
    w = 1.0 + e  # log(1 + e) = log(w) e / (w - 1) keeps the digits that w lost
    return tl.where(x > 20.0, x, tl.where(w == 1.0, e, tl.log(w) * e / (w - 1.0)))


@triton.jit
def step_sizes(delta, at, inside, bias):
    """delta before and after softplus; 0 beyond the end, where the state then stays as it is."""
    raw = tl.load(delta + at, mask=inside, other=0.0).to(tl.float32) + bias[:, None]
    return raw, tl.where(inside, softplus(raw), 0.0)


@triton.jit
def channels_of(per_group, GROUPS: tl.constexpr, BLOCK: tl.constexpr):
    """The program's group, its channels (of all) and which of them exist."""
    blocks = tl.cdiv(per_group, BLOCK)
    group = tl.program_id(0) // blocks
    in_group = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    return group, group * per_group + in_group, in_group < per_group


@triton.jit
def forward_kernel(
    u, delta, A, B, C, D, bias, y, starts, per_group, length, tiles,
    GROUPS: tl.constexpr, N: tl.constexpr, STATES: tl.constexpr,
    BLOCK: tl.constexpr, TILE: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    sample = tl.program_id(1).to(tl.int64)
    group, c, in_c = channels_of(per_group, GROUPS, BLOCK)
    n = tl.arange(0, STATES)
    in_cn = in_c[:, None] & (n < N)[None, :]
    rows = sample * GROUPS * per_group + c
    lines = (sample * GROUPS + group) * N + n
    rate = tl.load(A + c[:, None] * N + n[None, :], mask=in_cn, other=0.0)
    skip = tl.load(D + c, mask=in_c, other=0.0)
    shift = tl.load(bias + c, mask=in_c, other=0.0)
    last = (tl.arange(0, TILE) == TILE - 1)[None, None, :]

    h = tl.zeros([BLOCK, STATES], tl.float32)
    for tile in range(tiles):
        if KEEP:
            tl.store(starts + (rows[:, None] * tiles + tile) * N + n[None, :], h, mask=in_cn)
        t = tile * TILE + tl.arange(0, TILE)
        at = rows[:, None] * length + t[None, :]
        inside = in_c[:, None] & (t < length)[None, :]
        at_n = lines[:, None] * length + t[None, :]
        inside_n = (n < N)[:, None] & (t < length)[None, :]
        x = tl.load(u + at, mask=inside, other=0.0).to(tl.float32)
        raw, dt = step_sizes(delta, at, inside, shift)
        b = tl.load(B + at_n, mask=inside_n, other=0.0).to(tl.float32)
        c_out = tl.load(C + at_n, mask=inside_n, other=0.0).to(tl.float32)
        decay = tl.exp(dt[:, None, :] * rate[:, :, None])
        drive = (dt * x)[:, None, :] * b[None, :, :]
        decays, drives = tl.associative_scan((decay, drive), 2, combine)
        hs = decays * h[:, :, None] + drives
        out = tl.sum(hs * c_out[None, :, :], 1) + skip[:, None] * x
        tl.store(y + at, out.to(y.dtype.element_ty), mask=inside)
        h = tl.sum(tl.where(last, hs, 0.0), 2)


@triton.jit
def backward_kernel(
    dy, u, delta, A, B, C, D, bias, starts, du, ddelta, dA, dB, dC, dD, dbias,
    per_group, length, tiles,
    GROUPS: tl.constexpr, N: tl.constexpr, STATES: tl.constexpr,
    BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    sample = tl.program_id(1).to(tl.int64)
    group, c, in_c = channels_of(per_group, GROUPS, BLOCK)
    n = tl.arange(0, STATES)
    in_cn = in_c[:, None] & (n < N)[None, :]
    rows = sample * GROUPS * per_group + c
    lines = (sample * GROUPS + group) * N + n
    rate = tl.load(A + c[:, None] * N + n[None, :], mask=in_cn, other=0.0)
    skip = tl.load(D + c, mask=in_c, other=0.0)
    shift = tl.load(bias + c, mask=in_c, other=0.0)
    first = (tl.arange(0, TILE) == 0)[None, None, :]

    dh = tl.zeros([BLOCK, STATES], tl.float32)  # of the first state behind the tile
    sum_A = tl.zeros([BLOCK, STATES], tl.float32)
    sum_D = tl.zeros([BLOCK], tl.float32)
    sum_bias = tl.zeros([BLOCK], tl.float32)
    for step in range(tiles):
        tile = tiles - 1 - step
        t = tile * TILE + tl.arange(0, TILE)
        at = rows[:, None] * length + t[None, :]
        inside = in_c[:, None] & (t < length)[None, :]
        at_n = lines[:, None] * length + t[None, :]
        inside_n = (n < N)[:, None] & (t < length)[None, :]
        x = tl.load(u + at, mask=inside, other=0.0).to(tl.float32)
        g = tl.load(dy + at, mask=inside, other=0.0).to(tl.float32)
        raw, dt = step_sizes(delta, at, inside, shift)
        inside_next = in_c[:, None] & (t + 1 < length)[None, :]
        raw_next, dt_next = step_sizes(delta, at + 1, inside_next, shift)
        b = tl.load(B + at_n, mask=inside_n, other=0.0).to(tl.float32)
        c_out = tl.load(C + at_n, mask=inside_n, other=0.0).to(tl.float32)

        h = tl.load(starts + (rows[:, None] * tiles + tile) * N + n[None, :], mask=in_cn, other=0.0)
        decay = tl.exp(dt[:, None, :] * rate[:, :, None])
        drive = (dt * x)[:, None, :] * b[None, :, :]
        decays, drives = tl.associative_scan((decay, drive), 2, combine)
        hs = decays * h[:, :, None] + drives
        kept = hs - drive  # decay x state before

        # dh_t = C_t dy_t + decay_(t+1) dh_(t+1), from the end
        decay_next = tl.exp(dt_next[:, None, :] * rate[:, :, None])
        from_y = g[:, None, :] * c_out[None, :, :]
        decays, drives = tl.associative_scan((decay_next, from_y), 2, combine, reverse=True)
        dhs = decays * dh[:, :, None] + drives
        dh = tl.sum(tl.where(first, dhs, 0.0), 2)

        tl.atomic_add(dC + at_n, tl.sum(g[:, None, :] * hs, 0), mask=inside_n)
        tl.atomic_add(dB + at_n, tl.sum(dhs * (dt * x)[:, None, :], 0), mask=inside_n)
        through_b = tl.sum(dhs * b[None, :, :], 1)
        out = skip[:, None] * g + through_b * dt
        tl.store(du + at, out.to(du.dtype.element_ty), mask=inside)
        ddt = tl.sum(dhs * kept * rate[:, :, None], 1) + through_b * x
        draw = tl.where(inside, ddt / (1.0 + tl.exp(-raw)), 0.0)
        tl.store(ddelta + at, draw.to(ddelta.dtype.element_ty), mask=inside)
        sum_A += tl.sum(dhs * kept * dt[:, None, :], 2)
        sum_D += tl.sum(g * x, 1)
        sum_bias += tl.sum(draw, 1)

    tl.store(dA + rows[:, None] * N + n[None, :], sum_A, mask=in_cn)
    tl.store(dD + rows, sum_D, mask=in_c)
    tl.store(dbias + rows, sum_bias, mask=in_c)


def launch(u: Tensor, B: Tensor) -> tuple[tuple[int, int], tuple[int, int, int], dict[str, int]]:
    """Grid, sizes and constants of both kernels."""
    batch, channels, length = u.shape
    groups, states = B.shape[1:3]
    per_group = channels // groups
    padded = triton.next_power_of_2(states)
    tile = min(MAX_TILE, triton.next_power_of_2(length), ELEMENTS // padded)
    block = max(1, min(ELEMENTS // (tile * padded), triton.next_power_of_2(per_group)))
    constants = {"GROUPS": groups, "N": states, "STATES": padded, "BLOCK": block, "TILE": tile}
    grid = (groups * triton.cdiv(per_group, block), batch)
    return grid, (per_group, length, triton.cdiv(length, tile)), constants


class TritonScan(Function):
    @staticmethod
    def forward(ctx, *inputs: Tensor) -> Tensor:
        u, delta, A, B, C, D, bias = (t.contiguous() for t in inputs)
        grid, sizes, constants = launch(u, B)
        keep = any(ctx.needs_input_grad)
        y = torch.empty_like(u)
        starts = A.new_empty(u.shape[0], u.shape[1], sizes[-1] if keep else 0, A.shape[1])
        forward_kernel[grid](u, delta, A, B, C, D, bias, y, starts, *sizes, **constants, KEEP=keep)
        ctx.save_for_backward(u, delta, A, B, C, D, bias, starts)
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        u, delta, A, B, C, D, bias, starts = ctx.saved_tensors
        grid, sizes, constants = launch(u, B)
        du, ddelta = torch.empty_like(u), torch.empty_like(delta)
        dB, dC = (torch.zeros_like(t, dtype=torch.float32) for t in (B, C))
        dA, dD, dbias = (t.new_empty(u.shape[0], *t.shape) for t in (A, D, bias))
        gradients = (du, ddelta, dA, dB, dC, dD, dbias)
        inputs = (dy.contiguous(), u, delta, A, B, C, D, bias, starts)
        backward_kernel[grid](*inputs, *gradients, *sizes, **constants)
        return du, ddelta, dA.sum(0), dB.to(B.dtype), dC.to(C.dtype), dD.sum(0), dbias.sum(0)


def triton_scan(*inputs: Tensor) -> Tensor:
    """u, delta, B, C in float32 or bfloat16; A, D and delta_bias in float32."""
    return TritonScan.apply(*inputs)
