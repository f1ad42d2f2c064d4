"""Runs the worker on a tiny shape in every way that compare.py does, beside a plain oracle: python3 worker_test.py WORKER"""

import json
import math
import random
import subprocess
import sys
import tempfile
import unittest
from array import array
from pathlib import Path

WORKER = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else None
TOKENS, HEADS, HEAD_DIM = 13, 2, 8


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def head_attention(q, k, v, grad_out, causal):
    """out, grad_q, grad_k, grad_v of one head, each a list of rows."""
    scale = 1 / math.sqrt(HEAD_DIM)
    out, grad_q, grad_k, grad_v = ([[0.0] * HEAD_DIM for _ in q] for _ in range(4))
    for i, row in enumerate(q):
        seen = range(i + 1 if causal else TOKENS)
        weights = [math.exp(scale * dot(row, k[j])) for j in seen]
        p = [weight / sum(weights) for weight in weights]
        out[i] = [sum(p[j] * v[j][d] for j in seen) for d in range(HEAD_DIM)]
        delta = dot(out[i], grad_out[i])
        for j in seen:
            ds = scale * p[j] * (dot(grad_out[i], v[j]) - delta)
            for d in range(HEAD_DIM):
                grad_q[i][d] += ds * k[j][d]
                grad_k[j][d] += ds * row[d]
                grad_v[j][d] += p[j] * grad_out[i][d]
    return out, grad_q, grad_k, grad_v


def exact(given, causal):
    """As the worker writes it: four tensors [TOKENS, HEADS, HEAD_DIM], one after the other."""
    def rows(tensor, head):
        return [given[((tensor * TOKENS + i) * HEADS + head) * HEAD_DIM:][:HEAD_DIM] for i in range(TOKENS)]

    heads = [head_attention(*(rows(tensor, head) for tensor in range(4)), causal) for head in range(HEADS)]
    return [x for tensor in range(4) for i in range(TOKENS) for head in heads for x in head[tensor][i]]


class WorkerTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.inputs, self.outputs = Path(folder.name) / "inputs", Path(folder.name) / "outputs"
        generator = random.Random(5)
        # Sixteenths: no type rounds them.
        self.given = [generator.randint(-24, 24) / 16 for _ in range(4 * TOKENS * HEADS * HEAD_DIM)]
        self.inputs.write_bytes(array("f", self.given).tobytes())

    def run_worker(self, *words):
        return subprocess.run([WORKER, *map(str, words)], capture_output=True, text=True, timeout=120)

    def test_every_pass_of_every_way_to_run_is_computed_and_timed(self):
        for mask in ("full", "causal"):
            expected = exact(self.given, mask == "causal")
            for kind, ranks, threads, bound in (("fp32", 1, 1, 2e-6), ("fp32", 1, 2, 2e-6), ("fp32", 2, 1, 2e-6),
                                                ("bf16", 1, 1, 3e-2)):
                with self.subTest(mask=mask, kind=kind, ranks=ranks, threads=threads):
                    done = self.run_worker(TOKENS, HEADS, HEAD_DIM, mask, kind, ranks, threads, 3, self.inputs, self.outputs)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    computed = array("f", self.outputs.read_bytes())
                    self.assertEqual(len(computed), len(expected))
                    self.assertLess(max(abs(a - b) for a, b in zip(computed, expected)), bound)
                    result = json.loads(done.stdout)
                    for name in ("forward", "backward"):
                        self.assertEqual(len(result[name]), 3)
                        self.assertGreater(min(result[name]), 0)
                    self.assertGreater(result["peak_gflops"], 0)

    def test_wrong_arguments_end_it_with_an_error_that_names_them(self):
        self.assertEqual(self.run_worker(TOKENS).returncode, 2)
        right = [TOKENS, HEADS, HEAD_DIM, "full", "fp32", 1, 1, 3, self.inputs, self.outputs]
        for at, wrong, named in ((3, "windowed", "windowed is neither causal nor full"), (4, "fp8", "fp8 is neither"),
                                 (5, 0, "0 ranks"), (6, 0, "0 threads"), (8, self.inputs.parent / "nothing", "")):
            done = self.run_worker(*right[:at], wrong, *right[at + 1:])
            self.assertEqual(done.returncode, 1, wrong)
            self.assertIn(named, done.stderr)


if __name__ == "__main__":
    unittest.main()
