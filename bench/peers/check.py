"""
Holds the peers to the truth: the PyTorch model to the goldens in test/fixtures (float64 on the CPU:
logits, loss, gradients), and the scan that is timed to the plain loop. Prints the largest errors,
max |got - expected| / max |expected|, and exits 1 if one is too large.
    python3 bench/peers/check.py [--device cpu|cuda]
"""

import json
import struct
import sys
from argparse import ArgumentParser, RawTextHelpFormatter
from pathlib import Path

from need_torch import prepare, torch
from quadmamba_torch import QuadMamba
from scans import Scan, choose_scan, plain_scan
from torch import Tensor
from torch.nn import functional as F

FIXTURES = Path(__file__).resolve().parents[2] / "test" / "fixtures"
GOLDEN_TOLERANCE = 1e-6  # the goldens are float64 results, rounded to float32
SCAN_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4, torch.bfloat16: 2e-2}
TYPES = {"F32": torch.float32, "I64": torch.int64, "I32": torch.int32}


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Length of the header (8 bytes, little endian), header in JSON, the data it points into."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    body = bytearray(data[8 + length :])

    def tensor(entry: dict) -> Tensor:
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(body[begin:end], dtype=TYPES[entry["dtype"]])
        return flat.reshape(entry["shape"])

    return {name: tensor(entry) for name, entry in header.items()}, metadata


def error(got: Tensor, expected: Tensor) -> float:
    got, expected = got.detach().cpu().double(), expected.detach().cpu().double()
    return ((got - expected).abs().max() / expected.abs().max().clamp_min(1e-300)).item()


def check_golden(path: Path, scan: Scan) -> dict[str, float]:
    tensors, metadata = read_safetensors(path)
    config = json.loads(metadata["cfg"])

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}

    model = QuadMamba(
        dims=config["dims"],
        depths=config["depths"],
        ratio=config["ssm_ratio"],
        states=config["ssm_d_state"],
        conv_bias=config["ssm_conv_bias"],
        classes=config["num_classes"],
        semantics=metadata["semantics"],
        scan=scan,
    ).double()
    model.load_state_dict({name: t.double() for name, t in part("param.").items()})
    images = tensors["input"].double().requires_grad_()
    noise = [t.double() for name, t in sorted(part("quad.").items()) if name.endswith(".noise")]
    logits = model(images, noise)
    loss = F.cross_entropy(logits, tensors["target"])
    loss.backward()

    got = {name: p.grad for name, p in model.named_parameters()} | {"input": images.grad}
    gradients = {name: error(got.pop(name), expected) for name, expected in part("grad.").items()}
    assert not got, f"{path.name} has no gradient of {list(got)}"
    worst = max(gradients, key=gradients.get)
    return {
        "logits": error(logits, tensors["logits"]),
        "loss": error(loss, tensors["loss"][0]),
        f"{len(gradients)} gradients ({worst})": gradients[worst],
    }


def check_scan(scan: Scan, device: str, dtype: torch.dtype, states: int) -> dict[str, float]:
    """Against the plain loop in float64, on a length that is no multiple of any tile."""
    batch, groups, channels, length = 2, 2, 21, 201
    torch.manual_seed(0)
    rows = groups * channels
    inputs = [
        torch.randn(batch, rows, length).to(dtype),
        torch.randn(batch, rows, length).to(dtype),
        -torch.rand(rows, states) - 0.1,
        torch.randn(batch, groups, states, length).to(dtype),
        torch.randn(batch, groups, states, length).to(dtype),
        torch.randn(rows),
        torch.randn(rows),
    ]
    dy = torch.randn(batch, rows, length).to(dtype)

    def run(fn: Scan, place: str, convert) -> list[Tensor]:
        leaves = [convert(t).to(place).requires_grad_() for t in inputs]
        y = fn(*leaves)
        return [y, *torch.autograd.grad(y, leaves, convert(dy).to(place))]

    def convert(t: Tensor) -> Tensor:
        return t.double() if dtype == torch.float64 else t

    names = ("y", "du", "ddelta", "dA", "dB", "dC", "dD", "ddelta_bias")
    pairs = zip(run(scan, device, convert), run(plain_scan, "cpu", Tensor.double))
    return {name: error(*pair) for name, pair in zip(names, pairs)}


def report(what: str, errors: dict[str, float], tolerance: float) -> bool:
    ok = all(e <= tolerance for e in errors.values())
    figures = ", ".join(f"{name} {e:.1e}" for name, e in errors.items())
    print(f"{'ok ' if ok else 'BAD'} {what}: {figures}")
    return ok


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawTextHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    device = parser.parse_args().device
    print(prepare(device))
    torch.backends.nnpack.set_flags(False)  # else every float64 convolution warns
    name, scan = choose_scan(device)
    print(f"scan: {name}")
    dtypes = (torch.float32, torch.float64) if device == "cpu" else (torch.float32, torch.bfloat16)
    good = []
    for dtype in dtypes:
        for states in (1, 4, 16):
            errors = check_scan(scan, device, dtype, states)
            good.append(report(f"scan {dtype}, N {states}", errors, SCAN_TOLERANCE[dtype]))
    for path in sorted(FIXTURES.glob("quadmamba_*.safetensors")):
        for what, fn in {"plain loop": plain_scan, "timed scan": scan}.items():
            if fn is plain_scan or device == "cpu":
                errors = check_golden(path, fn)
                good.append(report(f"{path.stem}, {what}", errors, GOLDEN_TOLERANCE))
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
