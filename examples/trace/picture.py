#!/usr/bin/env python3
"""Draws a trace that `trace` wrote: what every rank computed when, what it waited for, and what was under way meanwhile.

    picture.py --output picture.png trace.json
"""
import argparse
import json
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Patch

KINDS = ("compute", "wait", "send", "receive")
WAIT, MESSAGE = "#d62728", "#7f7f7f"


def read(path):
    """The events of a trace: (rank, kind, hop, pass, begin and length in ms). Anything else ends the program."""
    try:
        rows = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))["traceEvents"]
        events = []
        for row in rows:
            kind = row["name"].split()[0]
            if kind not in KINDS:
                raise ValueError(f"what is {row['name']}?")
            events.append((int(row["pid"]), kind, int(row["args"]["hop"]), row["cat"], row["ts"] / 1e3, row["dur"] / 1e3))
    except OSError as error:
        raise SystemExit(f"{path} cannot be read: {error}")
    except (ValueError, TypeError, KeyError) as error:
        raise SystemExit(f"{path} is no trace of Rondo: {error!r}")
    if not events:
        raise SystemExit(f"{path} holds no events")
    return events


def draw(events):
    """A figure with a row for each rank: above its computing and waiting, below what it receives."""
    ranks = 1 + max(event[0] for event in events)
    hops = 1 + max(event[2] for event in events)
    colors = matplotlib.colormaps["viridis"]([0.1 + 0.75 * hop / max(1, hops - 1) for hop in range(hops)])
    figure, axes = plt.subplots(figsize=(11, 1.4 + 0.75 * ranks), constrained_layout=True)
    for rank, kind, hop, _, begin, length in events:
        if kind == "compute":
            axes.broken_barh([(begin, length)], (rank - 0.35, 0.42), facecolors=[colors[hop]], edgecolor="white", linewidth=0.5)
        elif kind == "wait":
            axes.broken_barh([(begin, length)], (rank - 0.35, 0.42), facecolors=WAIT)
        elif kind == "receive":
            axes.broken_barh([(begin, length)], (rank + 0.12, 0.16), facecolors=MESSAGE, edgecolor="white", linewidth=0.5)
    for name in ("forward", "backward"):
        times = [event[4] for event in events if event[3] == name]
        if times:
            axes.axvline(min(times), color="black", linewidth=0.8, linestyle=":")
            axes.annotate(f" {name}", (min(times), -0.5), fontsize=9, annotation_clip=False)
    busy = sum(event[5] for event in events if event[1] == "compute")
    waiting = sum(event[5] for event in events if event[1] == "wait")
    axes.set(
        title=f"{ranks} ranks: {100 * waiting / (busy + waiting):.1f} % of the ranks' time is exposed communication",
        xlabel="ms",
        yticks=range(ranks),
        yticklabels=[f"rank {rank}" for rank in range(ranks)],
        ylim=(ranks - 0.5, -0.8),
        xlim=(0, None),
    )
    handles = [Patch(color=colors[hop], label="computes, own piece" if hop == 0 else f"hop {hop}") for hop in range(hops)]
    handles += [Patch(color=WAIT, label="waits"), Patch(color=MESSAGE, label="a piece arrives")]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("--output", default="trace.png")
    arguments = parser.parse_args()
    figure = draw(read(arguments.trace))
    try:
        figure.savefig(arguments.output, dpi=120)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{arguments.output} cannot be written: {error}")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
