#!/usr/bin/env python3
"""Draws the metrics that `train --metrics` wrote: loss and peak memory per rank against training steps.

    plot.py --output picture.png "4 ranks=four.jsonl" "1 rank=one.jsonl"
"""
import argparse
import json
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def read(path):
    rows = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines() if line.strip()]
    rows = [row for row in rows if "step" in row and "loss" in row]
    if not rows:
        raise SystemExit(f"{path}: no line with a step and a loss")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="NAME=FILE, or FILE alone")
    parser.add_argument("--output", required=True, help="the PNG to write")
    options = parser.parse_args()

    figure, (loss, memory) = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    for run in options.runs:
        name, separator, path = run.partition("=")
        rows = read(path if separator else name)
        steps = [row["step"] for row in rows]
        loss.plot(steps, [row["loss"] for row in rows], label=name)
        memory.plot(steps, [row["peak_bytes"] / 2**20 for row in rows], label=name)
    loss.set(title="Training loss", xlabel="step", ylabel="nats per byte")
    memory.set(title="Peak memory per rank", xlabel="step", ylabel="MiB", ylim=(0, None))
    for axes in (loss, memory):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(options.output, dpi=120)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
