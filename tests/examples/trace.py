"""Tests of examples/trace: trace.py PICTURE_PY DIRECTORY RANKS COMMAND... (which gets the options of `trace`)"""
import collections
import json
import pathlib
import subprocess
import sys

import matplotlib.image

script, directory, ranks = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
command = sys.argv[4:]
directory.mkdir(parents=True, exist_ok=True)

# Tokens divide by the ranks, the shards into pieces of `chunk`.
HEADS, HEAD_DIM, CHUNK, PIECES = 2, 16, 32, 2
TOKENS = CHUNK * PIECES * ranks


def check(right, what):
    if not right:
        raise SystemExit(f"FAILED: {what}")


def run(*words):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=100)


def checked(file):
    """The events of a trace, when they are those of a ring of so many ranks; SystemExit otherwise."""
    events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    rows = collections.defaultdict(list)
    bytes_of = collections.Counter()
    for event in events:
        check(event["ph"] == "X" and event["ts"] >= 0 and event["dur"] >= 0, f"a stretch of time: {event}")
        check(event["cat"] == event["args"]["pass"] in ("forward", "backward"), f"of a pass: {event}")
        kind, hop = event["name"].split()
        check(int(hop) == event["args"]["hop"] and 0 <= int(hop) < ranks, f"of a hop: {event}")
        check(event["tid"] == {"compute": 0, "wait": 0, "send": 2, "receive": 3}[kind], f"in its kind's row: {event}")
        rows[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        bytes_of[event["pid"], event["cat"], kind] += event["args"]["bytes"]
    check({rank for rank, _ in rows} == set(range(ranks)), "every rank has events, and no other")
    for row, stretches in rows.items():
        stretches.sort()
        overlap = max((a[1] - b[0] for a, b in zip(stretches, stretches[1:])), default=0)
        check(overlap <= 0.01, f"what stands in a row follows each other, to 0.01 us: {row}, {overlap} us")
    forward = [event for event in events if event["cat"] == "forward" and event["name"].startswith("compute")]
    check(len(forward) == ranks * ranks * PIECES, "every rank computes with every piece once, forward")
    # Keys and values of a piece, floats, make N - 1 hops; a kernel may note something about each piece beside them.
    needed = (ranks - 1) * PIECES * CHUNK * 2 * HEADS * HEAD_DIM * 4
    for rank in range(ranks):
        sent = bytes_of[rank, "forward", "send"]
        check(needed <= sent <= 1.02 * needed, f"rank {rank} sends {needed} bytes and notes: {bytes_of}")
        for name in ("forward", "backward"):
            after = (rank + 1) % ranks
            check(bytes_of[rank, name, "send"] == bytes_of[after, name, "receive"], f"what leaves arrives: {bytes_of}")
    last_forward = max(event["ts"] + event["dur"] for event in forward if event["pid"] == 0)
    first_backward = min(event["ts"] for event in events if event["cat"] == "backward" and event["pid"] == 0)
    check(last_forward <= first_backward + 0.01, "backward comes after forward")
    return events


trace = directory / "trace.json"
trace.unlink(missing_ok=True)
options = ["--tokens", TOKENS, "--heads", HEADS, "--head-dim", HEAD_DIM, "--chunk", CHUNK, "--deadline", 30]
result = run(*command, *options, "--output", trace)
check(result.returncode == 0 and f"wrote {trace}" in result.stdout, f"trace ends well: {result}")
check(f"{ranks} ranks computed for" in result.stdout, f"and says what came of it: {result}")
events = checked(trace)

# The check can fail: an event less, one of another rank, one with other bytes.
for spoil in (
    lambda rows: rows.pop(),
    lambda rows: rows[0].update(pid=ranks),
    lambda rows: next(row for row in rows if row["name"].startswith("receive"))["args"].update(bytes=1),
    lambda rows: rows[0].update(dur=rows[0]["dur"] + 1e9),
):
    rows = json.loads(json.dumps(events))
    spoil(rows)
    spoilt = directory / "spoilt.json"
    spoilt.write_text(json.dumps({"traceEvents": rows}))
    try:
        checked(spoilt)
    except SystemExit:
        continue
    raise SystemExit("FAILED: a spoilt trace passes for a right one")

picture = directory / "trace.png"
picture.unlink(missing_ok=True)
result = run(sys.executable, script, "--output", picture, trace)
check(result.returncode == 0 and picture.exists(), f"picture.py ends well: {result}")
pixels = matplotlib.image.imread(picture)
check(pixels.shape[0] > 300 and len({tuple(pixel) for pixel in pixels[::4, ::4, :3].reshape(-1, 3).tolist()}) > 20, "in colours")

for text, reason in (("{}", "is no trace"), ('{"traceEvents": []}', "holds no events"), ("[", "is no trace"), ('{"traceEvents": [{"name": "x"}]}', "is no trace")):
    broken = directory / "broken.json"
    broken.write_text(text)
    result = run(sys.executable, script, "--output", directory / "none.png", broken)
    check(result.returncode == 1 and reason in result.stderr and "Traceback" not in result.stderr, f"{text} is refused: {result}")
result = run(*command, *options, "--output", directory / "no" / "such" / "trace.json")
check(result.returncode != 0 and "cannot be written" in result.stderr, f"a file that cannot be written is told of: {result}")
print("trace: all as it should be")
