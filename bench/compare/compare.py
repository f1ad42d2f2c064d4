"""Measures Rondo's worker and its peers in turns, shape by shape, and writes the report. Started by `run`, which see.

For every shape each side gets a process of its own, several times, in turns, on the same inputs and pinned to the same cores
(the last ones that this process may use). A process calls each pass once to warm up and then often enough to fill
half a second; its median counts, and a row holds the medians over the processes. Environment variables that steer
thread pools and BLAS libraries are cleared first, so that every side runs as it comes.
"""

import os

STEERING = ("OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "XLA_", "JAX_", "KOKKOS_", "ATEN_")
for variable in [name for name in os.environ if name.startswith(STEERING)]:
    del os.environ[variable]

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import reference
import report
from report import ONE_RANK, PYTORCH, RINGATTENTION

PEERS = Path(__file__).parent / "peers"
TIMEOUT = 900  # seconds that one process may take
LARGEST_ERRORS = {"fp32": 1e-3, "bf16": 0.1}  # beyond this a result is wrong, and its speed means nothing
CHUNKS = "128x128,256x128,256x256,512x256,1024x512"  # of queries x keys, for `ringattention`
QUICK_CHUNKS = "128x128,256x128,256x256"


@dataclass(frozen=True)
class Shape:
    peer: str
    tokens: int
    head_dim: int
    mask: str
    kind: str = "fp32"
    heads: int = 1
    ranks: int = 1
    threads: int = 1

    @property
    def cores(self):
        return self.ranks * self.threads

    @property
    def flops(self):
        """Useful floating-point operations of the forward pass; the backward pass has 2.5 times as many."""
        pairs = self.tokens * (self.tokens + 1) / 2 if self.mask == "causal" else self.tokens**2
        return 4.0 * pairs * self.heads * self.head_dim

    @property
    def name(self):
        return (f"{self.peer} S={self.tokens} H={self.heads} D={self.head_dim} {self.mask} {self.kind} "
                f"{self.ranks}x{self.threads}")


def shapes(quick):
    one_core = [Shape(PYTORCH, tokens, head_dim, mask) for tokens in (1024, 4096, 8192) for head_dim in (64, 128)
                for mask in ("full", "causal") if not quick or tokens < 8192]
    bf16 = [replace(shape, kind="bf16") for shape in one_core if shape.tokens == 4096 or not quick and shape.tokens < 4096]
    two_threads = [replace(shape, threads=2) for shape in one_core if shape.tokens == 4096]
    ring = dict(mask="causal", heads=4, ranks=2)
    authors = [Shape(RINGATTENTION, tokens, 64, **ring) for tokens in ((4096,) if quick else (4096, 8192))]
    cost = [Shape(ONE_RANK, tokens, head_dim, **ring)
            for tokens, head_dim in (((8192, 64),) if quick else ((8192, 64), (8192, 128), (16384, 64)))]
    return [*one_core, *bf16, *two_threads, *authors, *cost]


class Bench:
    """Runs processes of both sides on one shape's inputs."""

    def __init__(self, worker, folder, seconds):
        self.worker, self.folder, self.seconds = Path(worker).resolve(), Path(folder), seconds
        self.cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count()))

    def prepare(self, shape):
        """Writes the shape's inputs and, what takes long, its exact results; both are kept for the next run."""
        stem = f"{shape.tokens}-{shape.heads}-{shape.head_dim}-{shape.mask}-{shape.kind}"
        self.inputs, exact = self.folder / f"{stem}.inputs", self.folder / f"{stem}.npy"
        given = reference.random_inputs(shape.tokens, shape.heads, shape.head_dim, shape.kind, seed=shape.tokens)
        given.tofile(self.inputs)
        if not exact.exists():
            unfinished = exact.with_suffix(".part.npy")
            np.save(unfinished, reference.attention(given, shape.mask))
            unfinished.replace(exact)
        self.exact = np.load(exact)

    def process(self, command, shape, *more):
        """One process: what it printed, with the largest errors of what it computed."""
        calls = min(50, max(3, round(self.seconds * 80e9 * shape.cores / shape.flops)))
        mine = self.cores[-shape.cores:]
        environment = os.environ | {"OMP_NUM_THREADS": str(shape.cores), "OMP_PROC_BIND": "false"}
        with tempfile.TemporaryDirectory() as folder:
            outputs = Path(folder) / "outputs"
            words = (*command, shape.tokens, shape.heads, shape.head_dim, shape.mask, shape.kind, shape.ranks, shape.threads,
                     calls, self.inputs, outputs, *more)
            done = subprocess.run([*map(str, words)], env=environment, capture_output=True, text=True, timeout=TIMEOUT,
                                  preexec_fn=lambda: hasattr(os, "sched_setaffinity") and os.sched_setaffinity(0, mine))
            if done.returncode:
                sys.exit(f"{shape.name}: {' '.join(map(str, words))} ended with {done.returncode}:\n{done.stderr[-4000:]}")
            result = json.loads(done.stdout.splitlines()[-1])
            computed = np.fromfile(outputs, np.float32).reshape(self.exact.shape)
        result["errors"] = reference.max_errors(computed, self.exact)
        for name, error in result["errors"].items():
            if not error <= LARGEST_ERRORS[shape.kind]:
                sys.exit(f"{shape.name}: {' '.join(map(str, command))} is wrong, not fast: its {name} pass is off by {error:.3g}, "
                         f"allowed is {LARGEST_ERRORS[shape.kind]}")
        return result

    def ours(self, shape):
        return self.process([self.worker], shape)

    def peers(self, shape, chunks):
        if shape.peer == PYTORCH:
            return self.process([sys.executable, PEERS / "torch_worker.py"], shape)
        if shape.peer == RINGATTENTION:
            return self.process([sys.executable, PEERS / "jax_worker.py"], shape, chunks)
        return self.process([self.worker], replace(shape, ranks=1, threads=shape.cores))


def rates(shape, results):
    """GFLOP/s of each pass, and of both in one: medians over processes of their medians."""
    def seconds(result, name):
        if name == "both" and "both" not in result:
            return median(result["forward"]) + median(result["backward"])
        return median(result[name])

    passes = {"forward": 1, "backward": 2.5, "both": 3.5}
    return {name: times * shape.flops * 1e-9 / median(seconds(result, name) for result in results)
            for name, times in passes.items()}


def measure(bench, shape, processes, chunks):
    """The two rows of a shape."""
    bench.prepare(shape)
    ours, peers = [], []
    for turn in range(processes):
        sides = [lambda: ours.append(bench.ours(shape)), lambda: peers.append(bench.peers(shape, chunks))]
        for side in sides if turn % 2 == 0 else reversed(sides):
            side()
        if "chunks" in peers[-1]:  # the first process tries them all, the others the ones that were fastest
            chunks = ",".join(dict.fromkeys(peers[-1]["chunks"].values()))
    mine, theirs = rates(shape, ours), rates(shape, peers)
    described = {key: value for key, value in asdict(shape).items() if key not in ("kind", "tokens")}
    for name in ("forward", "backward"):
        row = {"pass": name, "sequence": shape.tokens, "type": shape.kind} | described | {
            "gflops": mine[name], "peak_gflops": median(result["peak_gflops"] for result in ours),
            "peer_gflops": theirs[name], "max_error": float(max(result["errors"][name] for result in ours)),
            "peer_max_error": float(max(result["errors"][name] for result in peers)),
            "processes": processes, "version": ours[0]["version"], "peer_version": peers[0]["version"]}
        if name == "backward":
            row |= {"both_gflops": mine["both"], "peer_both_gflops": theirs["both"]}
        if "chunks" in peers[0]:
            row["chunks"] = peers[-1]["chunks"][name]
        print(f"{shape.name} {name}: {row['gflops']:.1f} GFLOP/s, {row['gflops'] / row['peak_gflops']:.0%} of peak, "
              f"{report.ratio(row):.2f}x the peer's {row['peer_gflops']:.1f}", flush=True)
        yield row


def machine():
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def main():
    parser = argparse.ArgumentParser(prog="bench/compare/run", allow_abbrev=False)
    parser.add_argument("--worker", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--cache", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--out", required=True, help="folder of compare.json, compare.md and compare.png")
    parser.add_argument("--quick", action="store_true", help="fewer shapes, two processes each")
    parser.add_argument("--processes", type=int, help="processes of each side for every shape (default 5)")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="only shapes whose name contains TEXT")
    parser.add_argument("--prepare", action="store_true", help="compute the exact results and measure nothing")
    options = parser.parse_args()
    processes = (2 if options.quick else 5) if options.processes is None else options.processes
    if processes < 1:
        parser.error(f"--processes {processes}: at least 1 is needed")

    bench = Bench(options.worker, options.cache, seconds=0.25 if options.quick else 0.5)
    wanted = [shape for shape in shapes(options.quick) if all(text in shape.name for text in options.only)]
    for shape in [shape for shape in wanted if shape.cores > len(bench.cores)]:
        print(f"{shape.name}: left out, it needs {shape.cores} cores and there are {len(bench.cores)}")
        wanted.remove(shape)
    if not wanted:
        parser.error(f"no shape whose name contains {' and '.join(map(repr, options.only))}")
    for folder in (options.out, options.cache):
        Path(folder).mkdir(parents=True, exist_ok=True)
    rows = report.read(options.out) if options.only else []
    for shape in wanted:
        if options.prepare:
            bench.prepare(shape)
            continue
        rows = report.merged(rows, measure(bench, shape, processes, QUICK_CHUNKS if options.quick else CHUNKS))
        report.write_rows(options.out, rows)
    if not options.prepare:
        report.write(options.out, rows, machine())
        print(f"Written: {Path(options.out) / 'compare.md'}")


if __name__ == "__main__":
    main()
