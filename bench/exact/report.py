"""What exact.py writes: rows as JSON, and as Markdown. Needs nothing but Python.

A row is one result of one case: {type, mask, score, mode, batch, sequence, heads, kv_heads, head_dim, ranks, sharding, result,
max_error, peers, ulp}. `peers` has the error of each way in which the peer computed it; `ulp` is the
unit in the last place of float64 at the largest exact number.
"""

import json
from statistics import median

RESULTS = ("out", "lse", "grad_q", "grad_k", "grad_v")
BOUND = 2  # times the peer's error
FLOOR = 4  # units in the last place, for f64


def peer(row):
    """What a user of PyTorch would call, and its error: scaled_dot_product_attention where it can do it, else flex_attention,
    else its operations (lse: flex_attention, which alone returns it); or numpy's plain arithmetic, if that was asked for."""
    for way in ("flex", "ops", "plain") if row["result"] == "lse" else ("SDPA", "flex", "ops", "plain"):
        if way in row["peers"]:
            return way, row["peers"][way]


def allowed(row, bound=BOUND):
    return max(bound * peer(row)[1], FLOOR * row["ulp"] if row["type"] == "f64" else 0)


def within(row, bound=BOUND):
    return row["max_error"] <= allowed(row, bound)


def ratio(row):
    """Our error in the peer's."""
    error = peer(row)[1]
    return row["max_error"] / error if error else float("inf") if row["max_error"] else 1.0


def by_case(rows):
    """The rows of each case together, in order of type, mask and score."""
    fields = ("type", "mask", "score", "mode", "batch", "sequence", "heads", "kv_heads", "head_dim", "ranks", "sharding")
    found = {}
    for row in rows:
        found.setdefault(tuple(row[field] for field in fields), []).append(row)
    order = ("f64", "f32", "bf16", "f16")
    return sorted(found.values(), key=lambda case: (order.index(case[0]["type"]), case[0]["mask"], case[0]["score"]))


def table(header, lines):
    text = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(text + ["| " + " | ".join(line) + " |" for line in lines]) + "\n"


def cell(row):
    mark = "" if within(row) else " **beyond**"
    return f"{row['max_error']:.1e} / {peer(row)[1]:.1e} {peer(row)[0]}{mark}"


def case_line(case):
    row = case[0]
    score = ", ".join(part for part in (row["score"] or "plain", row["mode"]) if part)
    shape = f"{row['batch']} x {row['sequence']} x {row['heads']}/{row['kv_heads']} x {row['head_dim']}"
    return (row["type"], row["mask"], score, shape, f"{row['ranks']} {row['sharding']}", *(cell(row) for row in case))


def summary(rows):
    lines = []
    for kind in dict.fromkeys(row["type"] for row in rows):
        for result in RESULTS:
            mine = [row for row in rows if row["type"] == kind and row["result"] == result]
            ratios = [ratio(row) for row in mine]
            lines.append((kind, result, str(len(mine)), f"{median(ratios):.2f}", f"{max(ratios):.2f}",
                          str(sum(not within(row) for row in mine))))
    return table(("type", "result", "cases", "median ratio", "largest ratio", "beyond the bound"), lines)


def markdown(rows, versions):
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"""# Errors beside PyTorch's

The largest absolute error of every result of `examples/attend` against float64 (long double for f64), beside that of PyTorch
on the same tensors, which go through safetensors files. For each result PyTorch computes it as its users would: with
`scaled_dot_product_attention` (SDPA) where that knows the scores and masks, else with `flex_attention` (flex), and under dropout,
of which it draws other numbers, with the formulas in its own operations (ops), softmax in float32 where the type is narrower. The
bound is {BOUND} times that error, and for f64 at least {FLOOR} units in the last place of the largest number.

Every two values of any two columns occur together. Made with `bench/exact/run --out DIR` ({text}).

{summary(rows)}
{sum(map(within, rows))} of {len(rows)} results are within the bound. Under dropout PyTorch's operations keep the probabilities of the
forward pass, where Rondo computes them again from lse, as flash kernels do; and the largest of few errors is a matter of luck:
the median says what to expect.

Each cell: Rondo's error / PyTorch's, and the way that had it. Shapes are batch x sequence x heads/kv_heads x head_dim.

{table(("type", "mask", "score", "shape", "ranks", *RESULTS), [case_line(case) for case in by_case(rows)])}"""


def write(rows, folder, versions):
    text = "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"
    (folder / "exact.json").write_text(text)
    (folder / "exact.md").write_text(markdown(rows, versions))
