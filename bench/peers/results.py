"""
Prints rows, writes them as JSON, and sets them against the JSON of our own bench
(npm run bench:cuda -- --json FILE).
"""

import json
from collections.abc import Iterable
from pathlib import Path

from timing import Row


def show(r: Row) -> str:
    cells = [f"  {r['name']:<70} {r['ms']:9.3f} ms  ({r['p10']:.3f}-{r['p90']:.3f})"]
    if "flops" in r:
        cells.append(f"{r['flops'] / r['ms'] / 1e6:9.1f} GFLOP/s")
    if "images" in r:
        cells.append(f"{1000 * r['images'] / r['ms']:8.1f} images/s")
    if "peakBytes" in r:
        cells.append(f"peak {r['peakBytes'] / 2**30:.2f} GiB")
    return "  ".join(cells)


def named(rows: Iterable[Row]) -> dict[tuple, Row]:
    """Rows by group, full name and images. An indented one ("  dx ...") belongs to one above."""
    found, head = {}, ""
    for r in rows:
        indented = r["name"].startswith(" ")
        head = head if indented else r["name"]
        found[r["group"], f"{head} /{r['name']}" if indented else r["name"], r.get("images")] = r
    return found


def compare(ours: Iterable[Row], peers: Iterable[Row]) -> None:
    """Above 1: ours is faster. Our recorded steps (CUDA graphs) meet PyTorch's plain ones."""
    by_name = named(peers)
    print(f"\n  {'':<90} {'ours ms':>10} {'peer ms':>10} {'peer/ours':>10}")
    for (group, name, images), r in named(ours).items():
        peer = by_name.get((group, name.removesuffix(", recorded"), images))
        if peer:
            print(f"  {name:<90} {r['ms']:10.3f} {peer['ms']:10.3f} {peer['ms'] / r['ms']:10.2f}")


def finish(rows: list[Row], about: dict[str, str], save: str | None, against: str | None) -> None:
    if save:
        Path(save).write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    if against:
        compare(json.loads(Path(against).read_text())["rows"], rows)
