"""What compare.py writes: rows as JSON, as Markdown with a summary, and as a plot. Needs nothing but Python, and matplotlib for the plot.

A row is one pass of one shape: {pass, head_dim, sequence, mask, type, ranks, threads, gflops, peak_gflops, peer, peer_gflops,
max_error, peer_max_error} and, beyond that, heads, processes and the versions. GFLOP/s count useful work only; peak_gflops is
the fp32 FMA peak of as many cores as the row uses. Rows of the backward pass also hold the forward and the backward pass
together: both_gflops, peer_both_gflops.
"""

import json
import math
import os
from pathlib import Path

PYTORCH, RINGATTENTION, ONE_RANK = "PyTorch SDPA flash", "JAX ringattention", "Rondo on one rank"
FIELDS = ("pass", "peer", "type", "ranks", "threads", "heads", "head_dim", "sequence", "mask")


def key(row):
    """What makes a row another row than the rest."""
    return tuple(row[field] for field in FIELDS)


def order(row):
    """Forward before backward, fp32 before bf16, then as `FIELDS` say."""
    return (row["pass"] != "forward", row["peer"], row["type"] != "fp32", *key(row))


def merged(old, new):
    """The rows of an earlier run, with those measured again in place of theirs, in order."""
    return sorted(({key(row): row for row in old} | {key(row): row for row in new}).values(), key=order)


def ratio(row):
    return row["gflops"] / row["peer_gflops"]


def geometric_mean(values):
    values = list(values)
    if not values or min(values) <= 0:
        raise ValueError(f"the geometric mean needs positive numbers, given are {values}")
    return math.exp(sum(map(math.log, values)) / len(values))


def shape_name(row):
    """"S=4096 H=1 D=64 causal"."""
    return f"S={row['sequence']} H={row['heads']} D={row['head_dim']} {row['mask']}"


def table(header, lines):
    """A Markdown table; numbers stand to the right."""
    right = [all(cell.rstrip("x%").replace(".", "").replace("e-", "").isdigit() for cell in column) for column in zip(*lines)]
    text = ["| " + " | ".join(header) + " |", "|" + "|".join(" ---: " if r else " --- " for r in right) + "|"]
    return "\n".join(text + ["| " + " | ".join(line) + " |" for line in lines]) + "\n"


def rows_table(rows):
    return table(
        ("pass", "shape", "type", "ranks x threads", "GFLOP/s", "of peak", "peer's", "ratio", "max error", "peer's error"),
        [(row["pass"], shape_name(row), row["type"], f"{row['ranks']} x {row['threads']}", f"{row['gflops']:.1f}",
          f"{100 * row['gflops'] / row['peak_gflops']:.0f}%", f"{row['peer_gflops']:.1f}", f"{ratio(row):.2f}x",
          f"{row['max_error']:.1e}", f"{row['peer_max_error']:.1e}") for row in rows])


def against_peer(rows):
    """Geometric mean and the worst of the ratios to one peer, for every pass, type and number of threads."""
    groups = {}
    for row in rows:
        groups.setdefault((row["pass"], row["type"], f"{row['ranks']} x {row['threads']}"), []).append(row)
        if row["pass"] == "backward" and row["peer"] == RINGATTENTION:
            both = row | {"gflops": row["both_gflops"], "peer_gflops": row["peer_both_gflops"]}
            groups.setdefault(("both", row["type"], f"{row['ranks']} x {row['threads']}"), []).append(both)
    lines = []
    for name, group in groups.items():
        worst = min(group, key=ratio)
        shares = [100 * row["gflops"] / row["peak_gflops"] for row in group]
        lines.append((*name, str(len(group)), f"{geometric_mean(map(ratio, group)):.2f}x", f"{ratio(worst):.2f}x",
                      shape_name(worst), f"{min(shares):.0f} to {max(shares):.0f}%"))
    return table(("pass", "type", "ranks x threads", "shapes", "geometric mean", "worst", "worst shape", "of peak"), lines)


def scaling(rows):
    """What a second thread, and bf16 instead of fp32, give: rows of the same shape beside each other."""
    lines = []
    for row in rows:
        for field, other, what in (("threads", 1, "2 threads to 1"), ("type", "fp32", "bf16 to fp32")):
            if row[field] not in (2, "bf16"):
                continue
            base = next((r for r in rows if key(r) == key(row | {field: other})), None)
            if base:
                lines.append((what, row["pass"], shape_name(row), f"{row['gflops'] / base['gflops']:.2f}x",
                              f"{row['peer_gflops'] / base['peer_gflops']:.2f}x"))
    return table(("what", "pass", "shape", "Rondo", "PyTorch"), lines) if lines else ""


def markdown(rows, machine):
    """The whole report. `machine` is a line on where it was measured."""
    counts = sorted({row["processes"] for row in rows})
    versions = sorted({f"{row['peer']} {row['peer_version']}" for row in rows if row["peer"] != ONE_RANK})
    ours = sorted({row["version"] for row in rows})
    text = ["# Rondo beside its peers\n",
            f"{machine}. Rondo with {', '.join(ours)}; {', '.join(versions) or 'no peer'}.\n",
            f"GFLOP/s of useful work, medians over {' or '.join(map(str, counts))} processes of each side that took turns; "
            "peak is the fp32 FMA peak of as many cores, measured in Rondo's process. Errors are the largest absolute ones "
            "of the output (forward) or of the three gradients (backward) against float64.\n"]
    by_peer = {peer: [row for row in rows if row["peer"] == peer] for peer in (PYTORCH, RINGATTENTION, ONE_RANK)}
    for peer, mine in by_peer.items():
        if mine:
            title = "The ring against one rank with as many threads" if peer == ONE_RANK else f"Against {peer}"
            text += [f"## {title}\n", against_peer(mine), rows_table(mine)]
            if any("chunks" in row for row in mine):
                chosen = sorted({f"{shape_name(row)} {row['pass']} {row['chunks']}" for row in mine})
                text.append(f"Its fastest chunk sizes (queries x keys): {', '.join(chosen)}.\n")
    if compared := scaling(by_peer[PYTORCH]):
        text += ["## A second thread, and bf16\n", compared]
    return "\n".join(text)


def plot(rows, file):
    """Bars of both sides for every row, a panel for each pass, with the measured peak over them."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    passes = [name for name in ("forward", "backward") if any(row["pass"] == name for row in rows)]
    figure, panels = pyplot.subplots(len(passes), 1, figsize=(max(6, 0.22 * len(rows) + 3), 4.5 * len(passes)), squeeze=False)
    for name, panel in zip(passes, panels[:, 0]):
        mine = sorted((row for row in rows if row["pass"] == name), key=lambda row: (row["peer"] != PYTORCH, order(row)))
        colours = {PYTORCH: "tab:orange", RINGATTENTION: "tab:green", ONE_RANK: "tab:gray"}
        panel.bar([i - 0.2 for i in range(len(mine))], [row["gflops"] for row in mine], 0.4, color="tab:blue", label="Rondo")
        for peer, colour in colours.items():
            at = [i for i, row in enumerate(mine) if row["peer"] == peer]
            if at:
                panel.bar([i + 0.2 for i in at], [mine[i]["peer_gflops"] for i in at], 0.4, color=colour, label=peer)
        panel.hlines([row["peak_gflops"] for row in mine], [i - 0.4 for i in range(len(mine))],
                     [i + 0.4 for i in range(len(mine))], color="black", linewidth=1, label="fp32 FMA peak")
        panel.set_xticks(range(len(mine)), [f"{shape_name(row)}\n{row['type']} {row['ranks']}x{row['threads']}" for row in mine],
                         rotation=90, fontsize=7)
        panel.set_ylabel("GFLOP/s")
        panel.set_title(name)
        panel.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def read(folder):
    """Rows that an earlier run left in `folder`, or none."""
    file = Path(folder) / "compare.json"
    return json.loads(file.read_text()) if file.exists() else []


def replace_file(folder, name, text):
    """Writes a file that is whole or not there: a run that is cut off leaves the one before."""
    unfinished = Path(folder) / f".{name}"
    unfinished.write_text(text)
    os.replace(unfinished, Path(folder) / name)


def write_rows(folder, rows):
    replace_file(folder, "compare.json", json.dumps(rows, indent=1) + "\n")


def write(folder, rows, machine):
    """compare.json, compare.md and compare.png."""
    write_rows(folder, rows)
    replace_file(folder, "compare.md", markdown(rows, machine))
    plot(rows, Path(folder) / "compare.png")
