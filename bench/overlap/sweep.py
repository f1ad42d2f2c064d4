#!/usr/bin/env python3
"""The condition of the Ring Attention paper (arXiv 2310.01889, section 3), measured: a rank's block of c tokens hides the
transfer of its keys and values when c >= FLOP/s / bandwidth, for two bytes a number; for the four of fp32 twice that.

    sweep.py --out DIR [--blocks 1024 2048 4096] [--pairs 5] -- mpiexec -n 2 build/release/bin/bench_overlap

Two ranks behind links of several bandwidths (rondo::paced), full attention, one piece a rank. Writes DIR/sweep.json and
DIR/sweep.png, and ends with an error when a row misses its bound: below the line at most 5 % exposed, above it what
the computation without messages and the bytes predict, within 15 %: one of two steps lasts as long as its transfer. Needs matplotlib for the picture.
"""
import argparse
import json
import pathlib
import subprocess

# Transfer of a step, as a share of its computation. Nothing near 1: there, noise decides on which side a row falls.
SHARES = (0.1, 0.2, 0.4, 0.8, 1.5, 3, 6)
HEADS, DIM = 8, 64


def flops(block):
    """Of one step: two products for a block of queries and a block of keys."""
    return 4 * block**2 * HEADS * DIM


def sent_bytes(block):
    return 2 * block * HEADS * DIM * 4


def measure(command, block, rate, pairs):
    settings = {"tokens": 2 * block, "chunk": block, "heads": HEADS, "dim": DIM, "pairs": pairs, "causal": 0, "passes": 1}
    arguments = [f"{name}={value}" for name, value in settings.items()] + [f"rate={rate:.6g}"]
    run = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True, timeout=600)
    return json.loads(run.stdout.splitlines()[-1])


def within_bounds(row):
    if row["predicted"] == 0:
        return row["exposed"] <= 0.05
    return abs(row["exposed"] - row["predicted"]) <= 0.15 * row["predicted"]


def draw(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), constrained_layout=True)
    blocks = sorted({row["block"] for row in rows})
    speed = sorted(row["flops_per_second"] for row in rows)[len(rows) // 2]
    shares = [100 * max(row["exposed"], 0) for row in rows]
    dots = left.scatter([row["rate"] / 1e9 for row in rows], [row["block"] for row in rows], c=shares, s=160, cmap="viridis_r",
                        edgecolors="black", norm=matplotlib.colors.SymLogNorm(5, vmin=0, vmax=max(shares)))
    line = [2 * speed / block / 1e9 for block in blocks]
    left.plot(line, blocks, color="#d62728", label=f"c = 2 F / B, F = {speed / 1e9:.0f} GFLOP/s a rank")
    left.set(xscale="log", yscale="log", xlabel="bandwidth B (GB/s)", ylabel="block c (tokens a rank)",
             title="Exposed communication, % of the time without")
    left.set_yticks(blocks, [str(block) for block in blocks])
    left.minorticks_off()
    left.set_ylim(0.7 * blocks[0], 2 * blocks[-1])
    left.legend(loc="upper right")
    figure.colorbar(dots, ax=left)
    for block in blocks:
        mine = sorted((row for row in rows if row["block"] == block), key=lambda row: row["share"])
        right.plot([row["share"] for row in mine], [100 * row["exposed"] for row in mine], "o", label=f"c = {block}")
    line = [share / 100 for share in range(5, 650)]
    right.plot(line, [50 * max(0, share - 1) for share in line], color="black", linewidth=1, label="predicted")
    right.set(xscale="log", xlabel="transfer of a step / its computation", ylabel="exposed (%)")
    right.set_yscale("symlog", linthresh=10)
    right.axvline(1, color="#d62728", linewidth=1)
    right.legend()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--blocks", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--pairs", type=int, default=5, help="at least so many; small blocks have more, to last two seconds")
    parser.add_argument("command", nargs="+", help="mpiexec with its options, and bench_overlap")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for block in arguments.blocks:
        alone = measure(arguments.command, block, 1e12, arguments.pairs)
        speed = 2 * flops(block) / alone["silent_s"]
        pairs = max(arguments.pairs, round(1 / alone["silent_s"]))
        for share in SHARES:
            rate = sent_bytes(block) / (share * flops(block) / speed)
            row = measure(arguments.command, block, rate, pairs)
            share = sent_bytes(block) / rate / (row["silent_s"] / 2)
            row |= {"block": block, "share": share, "predicted": max(0, share - 1) / 2,
                    "exposed": row["moving_s"] / row["silent_s"] - 1, "flops_per_second": 2 * flops(block) / row["silent_s"]}
            row["within_bounds"] = within_bounds(row)
            rows.append(row)
            (arguments.out / "sweep.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            print(f"c = {block}, {rate / 1e6:.0f} MB/s, transfer / computation {row['share']:.2f}: exposed "
                  f"{100 * row['exposed']:.1f} %, predicted {100 * row['predicted']:.1f} %"
                  f"{'' if row['within_bounds'] else ', out of bounds'}", flush=True)
    draw(rows, arguments.out / "sweep.png")
    wrong = sum(not row["within_bounds"] for row in rows)
    raise SystemExit(f"{wrong} of {len(rows)} rows are out of bounds" if wrong else 0)


if __name__ == "__main__":
    main()
