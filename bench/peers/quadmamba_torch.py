"""
QuadMamba in plain PyTorch, the way the published code works: sequences are built with permutes,
masks and flips, and handed to a selective scan. It stands for what users run today, and check.py
holds it to the goldens. State-dict names are the published ones. Drop path, post-norm and the
backbone's norms are left out: our benches do not time them.
"""

from itertools import accumulate
from math import ceil, log

from need_torch import torch
from scans import Scan, plain_scan
from torch import Tensor, nn
from torch.nn import functional as F

VARIANTS = {
    "nano": {"dims": 24, "depths": (1, 1, 2, 1)},
    "lite": {"dims": 48, "depths": (2, 2, 2, 2)},
    "tiny": {"dims": 64, "depths": (2, 6, 2, 2)},
    "small": {"dims": 96, "depths": (2, 2, 5, 2), "ratio": 2},
    "base": {"dims": 96, "depths": (2, 2, 15, 2), "ratio": 2},
}
QUAD_STAGES = (0, 1)


class Permute(nn.Module):
    def __init__(self, *axes: int):
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)


def conv_down(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)


def to_rows() -> Permute:
    """Channels last."""
    return Permute(0, 2, 3, 1)


def to_planes() -> Permute:
    """Channels first."""
    return Permute(0, 3, 1, 2)


class ScorePredictor(nn.Module):
    """[batch, height, width, channels] -> log-probability of a fine reading, without channels."""

    def __init__(self, channels: int, semantics: str):
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.in_conv = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, channels),
            nn.GELU(),
        )
        self.out_conv = nn.Sequential(
            nn.Linear(channels, half),
            nn.GELU(),
            nn.Linear(half, quarter),
            nn.GELU(),
            nn.Linear(quarter, 2),
            nn.LogSoftmax(dim=-1),
        )
        self.semantics = semantics

    def forward(self, x: Tensor) -> Tensor:
        features = self.in_conv(x)
        if self.semantics == "paper":
            local, whole = features.chunk(2, dim=-1)
            means = F.adaptive_avg_pool2d(local.permute(0, 3, 1, 2), 2)
            spread = F.interpolate(means, size=x.shape[1:3], mode="bilinear", align_corners=False)
            features = torch.cat([whole, spread.permute(0, 2, 3, 1)], dim=-1)
        return self.out_conv(features)[..., 0]


class SS2D(nn.Module):
    """in_proj, depthwise 3x3 and SiLU, a scan core, LayerNorm, out_proj."""

    def __init__(
        self, directions: int, channels: int, inner: int, states: int, conv_bias: bool, scan: Scan
    ):
        super().__init__()
        self.split = [ceil(channels / 16), states, states]
        self.scan = scan
        self.in_proj = nn.Linear(channels, inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=conv_bias)
        self.x_proj_weight = nn.Parameter(torch.empty(directions, sum(self.split), inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(directions, inner, self.split[0]))
        self.dt_projs_bias = nn.Parameter(torch.empty(directions, inner))
        rates = torch.arange(1.0, states + 1).log()
        self.A_logs = nn.Parameter(rates.repeat(directions * inner, 1))
        self.Ds = nn.Parameter(torch.ones(directions * inner))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, channels, bias=False)
        nn.init.uniform_(self.x_proj_weight, -(inner**-0.5), inner**-0.5)
        nn.init.uniform_(self.dt_projs_weight, -(self.split[0] ** -0.5), self.split[0] ** -0.5)
        step = torch.empty(directions, inner).uniform_(log(0.001), log(0.1)).exp()
        self.dt_projs_bias.data.copy_(step + torch.log(-torch.expm1(-step)))  # softplus^-1

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        planes = self.in_proj(x).permute(0, 3, 1, 2).contiguous()
        y = self.core(F.silu(self.conv2d(planes)), noise)
        return self.out_proj(self.out_norm(y.permute(0, 2, 3, 1)))

    def scan_all(self, xs: Tensor) -> Tensor:
        """Scans sequences [batch, directions, inner, length]."""
        projected = torch.einsum("bkdl,kcd->bkcl", xs, self.x_proj_weight)
        low, B, C = projected.split(self.split, dim=2)
        delta = torch.einsum("bkrl,kdr->bkdl", low, self.dt_projs_weight)
        u, delta = xs.flatten(1, 2), delta.flatten(1, 2)
        y = self.scan(u, delta, -self.A_logs.exp(), B, C, self.Ds, self.dt_projs_bias.flatten())
        return y.view(xs.shape)


class CrossScan(SS2D):
    """Rows, columns, and both reversed, summed on their pixels."""

    def core(self, x: Tensor, noise: Tensor | None) -> Tensor:
        height, width = x.shape[2:]
        ahead = torch.stack([x.flatten(2), x.transpose(2, 3).flatten(2)], dim=1)
        ys = self.scan_all(torch.cat([ahead, ahead.flip(-1)], dim=1))
        rows, columns = (ys[:, :2] + ys[:, 2:].flip(-1)).unbind(1)
        columns = columns.unflatten(2, (width, height)).transpose(2, 3)
        return rows.unflatten(2, (height, width)) + columns


class QuadScan(SS2D):
    """The chosen quadrant is read as four windows, the others as one each; forward and reversed."""

    def __init__(self, *args, semantics: str, block_in_stage: int, block_in_model: int):
        super().__init__(2, *args)
        self.semantics = semantics
        self.shifted = block_in_stage % 2 == 1
        self.turn = [(1, 1), (-1, -1), (1, -1), (-1, 1)][block_in_model // 2 % 4]
        self.score_predictor = ScorePredictor(self.in_proj.out_features, semantics)

    def core(self, x: Tensor, noise: Tensor | None) -> Tensor:
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % 4, 0, -height % 4))
        shift = [sign * (x.shape[2] // 8) for sign in self.turn]
        scores = self.score_predictor(x.permute(0, 2, 3, 1))
        if self.shifted:
            x = x.roll(shift, (2, 3))
            if self.semantics == "paper":
                scores = scores.roll(shift, (1, 2))
        y = self.windows(x, self.choose(scores, noise))
        if self.shifted:
            y = y.roll([-n for n in shift], (2, 3))
        return y[:, :, :height, :width]

    def choose(self, scores: Tensor, noise: Tensor | None) -> Tensor:
        """One-hot choice of a quadrant, [batch, 1, 2, 2]; straight-through to the softmax."""
        logits = F.adaptive_avg_pool2d(scores.unsqueeze(1), 2).flatten(1)
        if noise is None and (self.training or self.semantics == "released"):
            noise = -torch.empty_like(logits).exponential_().log()
        soft = (logits if noise is None else logits + noise).softmax(-1)
        hard = F.one_hot(soft.argmax(-1), 4).to(soft.dtype)
        return (soft + (hard - soft).detach()).view(-1, 1, 2, 2)

    def windows(self, x: Tensor, choice: Tensor) -> Tensor:
        height, width = x.shape[2:]
        mask = F.interpolate(choice, size=(height, width)).to(x.dtype)
        coarse = ((2, height // 2, 2, width // 2), (0, 2, 1, 3))
        sub_windows = (0, 3, 1, 4, 2, 5) if self.semantics == "paper" else (0, 1, 3, 4, 2, 5)
        fine = ((2, 2, height // 4, 2, 2, width // 4), sub_windows)
        sequence = read(x * mask, *fine) + read(x * (1 - mask), *coarse)
        ys = self.scan_all(torch.stack([sequence, sequence.flip(-1)], dim=1))
        y = ys[:, 0] + ys[:, 1].flip(-1)
        return write(y, *fine).view(x.shape) * mask + write(y, *coarse).view(x.shape) * (1 - mask)


def read(x: Tensor, sizes: tuple[int, ...], order: tuple[int, ...]) -> Tensor:
    """[batch, channels, length] of a map whose height and width are cut into these sizes."""
    return x.reshape(*x.shape[:2], *sizes).permute(0, 1, *(axis + 2 for axis in order)).flatten(2)


def write(y: Tensor, sizes: tuple[int, ...], order: tuple[int, ...]) -> Tensor:
    """Undoes read: back in raster order, [batch, channels, length]."""
    places = [order.index(axis) + 2 for axis in range(len(order))]
    return y.unflatten(2, [sizes[axis] for axis in order]).permute(0, 1, *places).flatten(2)


class Mlp(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, channels: int, op: SS2D):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.op = op
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels)

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        x = x + self.op(self.norm(x), noise)
        return x + self.mlp(self.norm2(x))


class Stage(nn.Module):
    def __init__(self, blocks: list[Block], channels: int, last: bool):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        twice = 2 * channels
        down = (to_planes(), conv_down(channels, twice), to_rows(), nn.LayerNorm(twice))
        self.downsample = nn.Sequential(*(() if last else down))


class Classifier(nn.Module):
    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x).mean((1, 2)))


class QuadMamba(nn.Module):
    def __init__(
        self,
        dims: int,
        depths: tuple[int, ...],
        ratio: float = 1,
        states: int = 1,
        conv_bias: bool = False,
        in_channels: int = 3,
        classes: int = 1000,
        semantics: str = "paper",
        scan: Scan = plain_scan,
    ):
        super().__init__()
        half = dims // 2
        self.patch_embed = nn.Sequential(
            conv_down(in_channels, half),
            to_rows(),
            nn.LayerNorm(half),
            to_planes(),
            nn.GELU(),
            conv_down(half, dims),
            to_rows(),
            nn.LayerNorm(dims),
        )
        first_blocks = accumulate(depths, initial=0)

        def block(stage: int, index: int, first: int) -> Block:
            channels = dims * 2**stage
            args = (channels, int(ratio * channels), states, conv_bias, scan)
            if stage not in QUAD_STAGES:
                return Block(channels, CrossScan(4, *args))
            place = {"block_in_stage": index, "block_in_model": first + index}
            return Block(channels, QuadScan(*args, semantics=semantics, **place))

        self.layers = nn.ModuleList(
            Stage([block(stage, k, first) for k in range(depth)], dims * 2**stage, stage == 3)
            for stage, (depth, first) in enumerate(zip(depths, first_blocks))
        )
        self.classifier = Classifier(dims * 8, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, noise: list[Tensor] | None = None) -> Tensor:
        """
        Logits of images [batch, channels, height, width].
        noise: [batch, 4] for each quad block, added to its logits instead of drawn noise
        """
        given = iter(noise or [])
        x = self.patch_embed(images)
        for stage in self.layers:
            for block in stage.blocks:
                x = block(x, next(given, None) if isinstance(block.op, QuadScan) else None)
            x = stage.downsample(x)
        return self.classifier(x)
