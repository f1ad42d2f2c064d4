"""Computes every case with attend and with PyTorch or numpy, and the errors of both against float64 (long double for float64).
Started by `run`, which see."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cases as case_list
import numpy as np
import oracle
import report
from safetensors import deserialize
from safetensors.numpy import save_file

NAMES = {"F64": "f64", "F32": "f32", "BF16": "bf16", "F16": "f16"}


def load(path):
    """The tensors of a file in float64."""
    return {name: np.frombuffer(bytes(tensor["data"]), case_list.DTYPES[NAMES[tensor["dtype"]]]).reshape(tensor["shape"])
            .astype(np.float64) for name, tensor in deserialize(Path(path).read_bytes())}


def attend(program, case, tensors, folder):
    """What the program makes of a case's file. \\throws RuntimeError with what it says"""
    save_file(tensors, Path(folder) / "in.safetensors")
    command = [program, "in.safetensors", "out.safetensors", *case.options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300,
                          env=os.environ | {"OMP_PROC_BIND": "false"})
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return load(Path(folder) / "out.safetensors")


def max_errors(results, exact):
    """The largest absolute error of each result; a number that is not finite where the exact one is counts as infinite."""
    errors = {}
    for name, x in results.items():
        difference = np.abs(x - exact[name]).astype(np.float64)
        errors[name] = float(np.where(np.isnan(difference), np.inf, difference).max())
    return errors


def worsen(errors, more):
    """Of each result the larger of two errors."""
    errors.update({name: max(error, errors.get(name, 0.0)) for name, error in more.items()})


def rows_of(case, ours, theirs, ulp):
    """One row for each result of a case."""
    batch, tokens, heads, kv_heads, head_dim = case.shape
    return [{"type": case.dtype, "mask": case.mask, "score": case.score, "mode": case.mode, "batch": batch, "sequence": tokens,
             "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "ranks": case.ranks, "sharding": case.sharding,
             "result": name, "max_error": ours[name], "peers": {way: x[name] for way, x in theirs.items() if name in x},
             "ulp": ulp[name]} for name in report.RESULTS]


def precise(case):
    return np.longdouble if case.dtype == "f64" else np.float64


def plain(case, tensors):
    """The formulas in numpy, in the type that Rondo adds up in, and one rounding of each result."""
    precision = np.float64 if case.dtype == "f64" else np.float32
    results = oracle.attention(tensors, case, precision, case_list.DTYPES[case.dtype])
    return {"plain": {name: x.astype(np.float64) for name, x in results.items()}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--attend", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--numpy", action="store_true")
    parser.add_argument("--bound", type=float, default=report.BOUND, help="times the peer's error that are allowed")
    parser.add_argument("--every", type=int, default=1, help="take only every so many'th case")
    parser.add_argument("--only", action="append", default=[])
    arguments = parser.parse_args()

    versions = {"numpy": np.__version__}
    if arguments.numpy:
        peer = plain
    else:
        import peer_torch
        import torch

        peer, versions = peer_torch.results, versions | {"PyTorch": torch.__version__}
    arguments.out.mkdir(parents=True, exist_ok=True)
    program = str(Path(arguments.attend).resolve())
    rows = []
    every = list(enumerate(case_list.all_cases()))[::arguments.every]
    chosen = [(seed, case) for seed, case in every if all(text in case.name for text in arguments.only)]
    with tempfile.TemporaryDirectory() as folder:
        for seed, case in chosen:
            ours, theirs, ulp = {}, {}, {}
            for draw in range(arguments.draws):
                tensors = case_list.inputs(case, 1000 * draw + seed)
                exact = oracle.attention(tensors, case, precise(case))
                worsen(ours, max_errors(attend(program, case, tensors, folder), exact))
                for way, result in peer(case, tensors).items():
                    worsen(theirs.setdefault(way, {}), max_errors(result, exact))
                worsen(ulp, {name: float(np.spacing(np.float64(np.abs(x).max()))) for name, x in exact.items()})
            new = rows_of(case, ours, theirs, ulp)
            rows += new
            worst = max(new, key=report.ratio)
            print(f"{report.ratio(worst):5.2f}  {case.name}  ({worst['result']}, {report.peer(worst)[0]})", flush=True)
    report.write(rows, arguments.out, versions)
    wrong = [row for row in rows if not report.within(row, arguments.bound)]
    print(f"{len(chosen)} cases, {len(wrong)} of {len(rows)} results beyond the bound")
    return 1 if wrong or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
