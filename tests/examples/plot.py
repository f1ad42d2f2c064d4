"""Tests of examples/plot: plot.py PLOT_PY DIRECTORY"""
import importlib.util
import json
import math
import pathlib
import subprocess
import sys

import matplotlib.image

script, directory = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
directory.mkdir(parents=True, exist_ok=True)

losses = [5.5, 4.0, 3.0, 2.5, 2.25]
peaks = [10 * 2**20, 20 * 2**20, 20 * 2**20, 30 * 2**20, 30 * 2**20]
metrics = directory / "a run.jsonl"
metrics.write_text(
    "".join(
        json.dumps({"step": i + 1, "tokens": 8 * (i + 1), "loss": losses[i], "seconds": 0.5, "peak_bytes": peaks[i], "wait_share": 0.1})
        + "\n"
        for i in range(5)
    )
)


def run(*arguments):
    return subprocess.run([sys.executable, str(script), *map(str, arguments)], capture_output=True, text=True, check=False)


def check(right, what):
    if not right:
        raise SystemExit(f"FAILED: {what}")


# The program writes a PNG that a reader accepts, with curves in it.
picture = directory / "picture.png"
picture.unlink(missing_ok=True)
result = run("--output", picture, f"one={metrics}", metrics)
check(result.returncode == 0 and f"wrote {picture}" in result.stdout, f"plot.py ends well: {result}")
pixels = matplotlib.image.imread(picture)
check(pixels.shape[:2] == (480, 1320), f"the picture's size: {pixels.shape}")
coloured = (pixels[:, :, :3].max(axis=2) - pixels[:, :, :3].min(axis=2) > 0.2).mean(axis=0)
check(coloured[:660].sum() > 0.3 and coloured[660:].sum() > 0.3, "both halves hold coloured lines")

# What the figure holds is what the file says.
specification = importlib.util.spec_from_file_location("plot", script)
plot = importlib.util.module_from_spec(specification)
specification.loader.exec_module(plot)
loss_axes, memory_axes = plot.draw([("one", plot.read(metrics))]).axes
mean, raw = loss_axes.lines[:2]
check(list(raw.get_xdata()) == [1, 2, 3, 4, 5] and list(raw.get_ydata()) == losses, "the losses are drawn")
check(math.isclose(mean.get_ydata()[4], sum(losses) / 5), "and their running mean")
check(list(memory_axes.lines[0].get_ydata()) == [10, 20, 20, 30, 30], "the memory is drawn in MiB")
check("30.0 MiB" in memory_axes.get_legend().get_texts()[0].get_text(), "and its peak is named")
check(plot.running_mean(list(range(20)))[19] == 14.5, "a running mean is of the last ten")

# What is no metrics file is refused, with its place.
for text, reason in (
    ("", "holds no steps"),
    ("\n\n", "holds no steps"),
    ('{"step": 1, "loss": 2, "peak_bytes": 3}\nnot JSON\n', "line 2: no JSON object with the numbers step, loss, peak_bytes"),
    ('{"step": 1, "loss": "low", "peak_bytes": 3}\n', "line 1: no JSON object"),
    ('{"step": 1, "loss": 2}\n', "line 1: no JSON object"),
    ("[1, 2]\n", "line 1: no JSON object"),
):
    broken = directory / "broken.jsonl"
    broken.write_text(text)
    result = run("--output", directory / "none.png", broken)
    check(result.returncode == 1 and reason in result.stderr, f"{text!r} is refused: {result}")
    check("Traceback" not in result.stderr, f"without a traceback: {result.stderr}")
    check(not (directory / "none.png").exists(), "and no picture is written")
result = run("--output", directory / "none.png", directory / "missing.jsonl")
check(result.returncode == 1 and "cannot be read" in result.stderr, f"a missing file is refused: {result}")
print("plot.py: all as it should be")
