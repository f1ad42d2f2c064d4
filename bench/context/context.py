#!/usr/bin/env python3
"""Draws what bench_context prints: context.py ROWS.jsonl PICTURE.png. Needs matplotlib."""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

rows = [json.loads(line) for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
named = {name: [row for row in rows if row["method"] == name] for name in ("plain", "blockwise", "ring")}
figure, axes = plt.subplots(figsize=(6.5, 4.5), constrained_layout=True)
ranks = [row["ranks"] for row in named["ring"]]
axes.plot(ranks, [row["context"] for row in named["ring"]], "o-", color="#1f77b4", label="ring, that much a rank")
one = named["blockwise"][0]["context"]
axes.plot([1, *ranks], [one, *(one * n for n in ranks)], ":", color="grey", label="in proportion to the ranks")
axes.plot([1], [one], "s", color="#2ca02c", label=f"blockwise, one rank: {one:,}")
axes.plot([1], [named["plain"][0]["context"]], "D", color="#d62728",
          label=f"all probabilities in memory: {named['plain'][0]['context']:,}")
budget = max(row["peak_bytes"] for row in rows) / 2**20
axes.set(xscale="log", yscale="log", xlabel="ranks", ylabel="tokens",
         title=f"Longest context, forward and backward, in {budget:.0f} MiB a rank\n(4 heads of 64, float)")
axes.set_xticks([1, *ranks], [str(n) for n in (1, *ranks)])
axes.minorticks_off()
axes.grid(alpha=0.3)
axes.legend()
figure.savefig(sys.argv[2], dpi=120)
