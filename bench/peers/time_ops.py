"""
Times PyTorch's ops on the shapes of our benches.
    python3 bench/peers/time_ops.py [scan] [products] [layers] [functions] [dispatch]
        [--device cuda|cpu] [--json FILE] [--against OURS.json]
All groups without a word; functions and dispatch are on the CPU only.
"""

from argparse import ArgumentParser, RawTextHelpFormatter

from need_torch import prepare
from ops_layers import layer_rows
from ops_products import product_rows
from ops_scan import scan_rows
from ops_small import dispatch_rows, function_rows
from results import finish, show
from scans import choose_scan, plain_scan


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawTextHelpFormatter)
    parser.add_argument("groups", nargs="*", help="scan, products, layers, functions, dispatch")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--json")
    parser.add_argument("--against", metavar="OURS.json")
    options = parser.parse_args()
    device = options.device
    about = {"device": prepare(device)}
    about["scan"], scan = choose_scan(device)
    print(f"{about['device']}\nscan: {about['scan']}")
    groups = {
        "scan": lambda: scan_rows(device, scan),
        "products": lambda: product_rows(device),
        "layers": lambda: layer_rows(device),
    }
    if device == "cpu":
        groups |= {"functions": function_rows, "dispatch": dispatch_rows}
    for name in options.groups:
        if name not in groups:
            parser.error(f"no group {name}; there are {', '.join(groups)}")
    if scan is plain_scan:
        groups["scan"] = lambda: ()  # minutes a row, and no peer
    rows = []
    for name in options.groups or groups:
        print(f"\n{name}")
        for row in groups[name]():
            rows.append(row)
            print(show(row), flush=True)
    finish(rows, about, options.json, options.against)


if __name__ == "__main__":
    main()
