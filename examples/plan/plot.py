#!/usr/bin/env python3
"""Draws what rondo-plan --json wrote: plot.py DATA.json PICTURE.png"""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def thousands(axes):
    axes.set_xscale("log", base=2)
    axes.grid(alpha=0.3)


def draw_plan(data):
    """Longest context over ranks, and what waiting costs over the tokens of a rank."""
    plan, curves = data["plan"], data["curves"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    figure.suptitle(f"{plan['model']['name']} on {plan['machine']['name']}, {plan['type']}")
    points = [p for p in curves["over_ranks"] if p["fits"]]
    left.plot([p["ranks"] for p in points], [p["context"] for p in points], marker="o")
    left.set(title="Longest context that fits", xlabel="ranks", ylabel="tokens")
    left.set_yscale("log", base=2)
    points = curves["over_tokens"]
    tokens = [p["tokens_per_rank"] for p in points]
    right.plot(tokens, [100 * p["utilisation"] for p in points], marker="o", label="model FLOP utilisation")
    right.plot(tokens, [100 * p["exposed_share"] for p in points], marker="s", label="exposed share of attention")
    for name, style in (("forward", ":"), ("backward", "--")):
        block = plan[name]["smallest_block"]
        if block > 0:
            right.axvline(block, color="gray", linestyle=style, label=f"smallest block that hides, {name}: {block:.0f}")
    right.set(title=f"{plan['ranks']} ranks", xlabel="tokens of a rank", ylabel="%", ylim=(0, 100))
    right.legend()
    for axes in (left, right):
        thousands(axes)
    return figure


def draw_published(data):
    """Table 3: the ring's contexts, printed and from the formulas."""
    rows = data["published"]["contexts"]
    names = [f"{row['hardware']}, {row['model']}" for row in rows]
    figure, axes = plt.subplots(figsize=(9, 5), constrained_layout=True)
    places = range(len(rows))
    for index, (name, color) in enumerate((("blockwise", "tab:orange"), ("ring", "tab:blue"))):
        axes.barh([p + 0.2 - 0.4 * index for p in places], [row["context_k"][2 + index] for row in rows], height=0.35, color=color, label=f"{name}, from the formulas")
        axes.plot([row["printed_context_k"][2 + index] for row in rows], [p + 0.2 - 0.4 * index for p in places], "k|", markersize=12, label="printed" if index == 0 else None)
    axes.set_yticks(list(places), names)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="thousands of tokens", title="Largest contexts of arXiv 2310.01889, table 3")
    axes.grid(alpha=0.3, axis="x")
    axes.legend()
    return figure


def draw_simulation(data):
    """Efficiency of the ring over ranks."""
    simulation = data["simulation"]
    figure, both = plt.subplots(1, 2, figsize=(11, 4), sharey=True, constrained_layout=True)
    figure.suptitle(f"Attention of {simulation['model']} on {simulation['machine']}, {simulation['tokens_per_rank']} tokens a rank, simulated")
    for axes, name in zip(both, ("forward", "backward")):
        for line in simulation["lines"]:
            axes.plot([p["ranks"] for p in line["points"]], [100 * p[name]["efficiency"] for p in line["points"]], marker="o", label=line["name"])
        axes.set(title=name, xlabel="ranks", ylim=(0, 102))
        thousands(axes)
    both[0].set_ylabel("efficiency, %")
    both[0].legend(loc="lower left")
    return figure


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    try:
        data = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"{sys.argv[1]} cannot be read: {error}")
    drawers = {"plan": draw_plan, "published": draw_published, "simulation": draw_simulation}
    for key, drawer in drawers.items():
        if key in data:
            drawer(data).savefig(sys.argv[2], dpi=120)
            print(f"wrote {sys.argv[2]}")
            return
    raise SystemExit(f"{sys.argv[1]} holds none of {', '.join(drawers)}")


if __name__ == "__main__":
    main()
