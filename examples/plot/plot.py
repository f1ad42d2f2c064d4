#!/usr/bin/env python3
"""Draws the metrics that `train --metrics` wrote: loss and peak memory per rank against training steps.

    plot.py --output picture.png "4 ranks=four.jsonl" "1 rank=one.jsonl"
"""
import argparse
import json
import math
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FIELDS = ("step", "loss", "peak_bytes")


def read(path):
    """The lines of a metrics file. Anything that is none ends the program with its place."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"{path} cannot be read: {error}")
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append({field: float(row[field]) for field in FIELDS})
        except (ValueError, TypeError, KeyError):
            raise SystemExit(f"{path}, line {number}: no JSON object with the numbers {', '.join(FIELDS)}")
    if not rows:
        raise SystemExit(f"{path} holds no steps")
    return rows


def running_mean(values, count=10):
    """The mean of each value and those before it, `count` at most: every step sees another text, some are harder."""
    return [math.fsum(values[max(0, i + 1 - count) : i + 1]) / min(count, i + 1) for i in range(len(values))]


def draw(runs):
    """A figure of named runs."""
    figure, (loss, memory) = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    for name, rows in runs:
        steps = [row["step"] for row in rows]
        losses = [row["loss"] for row in rows]
        (line,) = loss.plot(steps, running_mean(losses), label=f"{name}, mean of ten steps", linewidth=2)
        loss.plot(steps, losses, color=line.get_color(), alpha=0.35, linewidth=1)
        peak = [row["peak_bytes"] / 2**20 for row in rows]
        memory.plot(steps, peak, color=line.get_color(), label=f"{name}: {max(peak):.1f} MiB", linewidth=2)
    loss.axhline(math.log(256), color="gray", linestyle=":", label="all bytes alike: ln 256")
    loss.set(title="Training loss", xlabel="step", ylabel="nats per byte", ylim=(0, None))
    memory.set(title="Peak memory of a rank", xlabel="step", ylabel="MiB", ylim=(0, None))
    for axes in (loss, memory):
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="NAME=FILE, or FILE alone")
    parser.add_argument("--output", required=True, help="the PNG to write")
    options = parser.parse_args()
    runs = []
    for run in options.runs:
        name, separator, path = run.partition("=")
        runs.append((name, read(path if separator else name)))
    draw(runs).savefig(options.output, dpi=120)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
