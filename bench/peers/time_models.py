"""
Times training steps (forward, cross-entropy with smoothing, backward, clip, AdamW) and forward
passes of QuadMamba in PyTorch.
    python3 bench/peers/time_models.py [--device cuda|cpu] [--variants lite,small]
        [--precision bf16|fp32] [--batch N] [--size S] [--channels C] [--classes K]
        [--json FILE] [--against OURS.json]
The images lie on the device beforehand; our own step copies them there, so PyTorch gains by it.
"""

from argparse import ArgumentParser, Namespace, RawTextHelpFormatter
from collections.abc import Iterator

from need_torch import prepare, torch
from quadmamba_torch import VARIANTS, QuadMamba
from results import finish, show
from scans import Scan, choose_scan
from timing import Row, measure_steps
from torch import nn
from torch.nn import functional as F


def model_rows(variant: str, scan: Scan, options: Namespace) -> Iterator[Row]:
    device, precision, batch = options.device, options.precision, options.batch
    torch.manual_seed(0)
    sizes = {"in_channels": options.channels, "classes": options.classes}
    model = QuadMamba(**VARIANTS[variant], **sizes, scan=scan).to(device)
    images = torch.randn(batch, options.channels, options.size, options.size, device=device)
    labels = torch.arange(batch, device=device) * 37 % options.classes
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True)

    def logits() -> torch.Tensor:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
            return model(images)

    def training_step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(logits().float(), labels, label_smoothing=0.1).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()

    def forward() -> None:
        with torch.no_grad():
            logits()

    # The forward pass comes first, so that its peak does not count what training keeps.
    model.eval()
    size = "" if device == "cuda" else f"{options.channels} x {options.size} x {options.size} "
    name = f"{variant} {size}{precision}"
    yield measure_steps("models", f"{name} forward", forward, device, batch)
    model.train()
    yield measure_steps("models", f"{name} training step", training_step, device, batch)


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawTextHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--variants", help="lite,tiny,small,base; on the CPU lite")
    parser.add_argument("--precision", choices=["bf16", "fp32"], help="bf16; on the CPU fp32")
    parser.add_argument("--batch", type=int, help="128; on the CPU 8")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--json")
    parser.add_argument("--against", metavar="OURS.json")
    options = parser.parse_args()
    cuda = options.device == "cuda"
    options.precision = options.precision or ("bf16" if cuda else "fp32")
    options.batch = options.batch or (128 if cuda else 8)
    variants = (options.variants or ("lite,tiny,small,base" if cuda else "lite")).split(",")
    for variant in variants:
        if variant not in VARIANTS:
            parser.error(f"no variant {variant}; there are {', '.join(VARIANTS)}")
    about = {"device": prepare(options.device)}
    about["scan"], scan = choose_scan(options.device)
    about["images"] = f"{options.batch} x {options.channels} x {options.size} x {options.size}"
    print("\n".join(f"{key}: {value}" for key, value in about.items()))
    rows = []
    for variant in variants:
        for row in model_rows(variant, scan, options):
            rows.append(row)
            print(show(row), flush=True)
        if cuda:
            torch.cuda.empty_cache()
    finish(rows, about, options.json, options.against)


if __name__ == "__main__":
    main()
