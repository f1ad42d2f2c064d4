#!/usr/bin/env python3
"""Draws what bench_context printed, with one budget or several: context.py PICTURE.png ROWS.jsonl... Needs matplotlib."""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6.5, 4.5), constrained_layout=True)
most = 1
for file, color in zip(sys.argv[2:], ("#1f77b4", "#ff7f0e", "#2ca02c")):
    rows = [json.loads(line) for line in pathlib.Path(file).read_text().splitlines()]
    budget = f"{max(row['peak_bytes'] for row in rows) / 2**20:.0f} MiB a rank"
    plain, one, *ring = [row["context"] for row in rows]
    ranks = [row["ranks"] for row in rows][2:]
    most = max(most, *ranks)
    axes.plot([1, *ranks], [one * n for n in (1, *ranks)], ":", color="grey")
    axes.plot(ranks, ring, "o", color=color, label=f"ring, {budget}")
    axes.plot([1], [one], "s", color=color, label=f"blockwise on one rank: {one:,}")
    axes.plot([1], [plain], "D", color=color, label=f"all probabilities in memory: {plain:,}")
axes.set(xscale="log", yscale="log", xlabel="ranks", ylabel="tokens",
         title="Longest context, forward and backward (4 heads of 64, float)\ndotted: in proportion to the ranks")
ticks = [2**i for i in range(most.bit_length())]
axes.set_xticks(ticks, [str(n) for n in ticks])
axes.minorticks_off()
axes.grid(alpha=0.3)
axes.legend(fontsize="small")
figure.savefig(sys.argv[1], dpi=120)
