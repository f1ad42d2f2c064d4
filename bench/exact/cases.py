"""What is computed: cases in which every two values of any two features occur together, in as few cases as a greedy choice
finds, and some that are about three features. Made from a fixed seed: the same cases every time."""

import itertools
import random
from dataclasses import dataclass

import ml_dtypes
import numpy as np

DTYPES = {"f64": np.dtype(np.float64), "f32": np.dtype(np.float32), "bf16": np.dtype(ml_dtypes.bfloat16),
          "f16": np.dtype(np.float16)}

FEATURES = {
    "mask": ["full", "causal", "window:17,5", "window:0,40", "prefix:33", "chunked:24", "document", "causal & window:40,0",
             "causal & document", "causal & chunked:50", "prefix:20 & window:64,64", "document & window:9,9 & chunked:32"],
    "score": ["", "softcap 1.5", "alibi", "softcap 4 & alibi", "scale 0.31", "dropout 0.2", "softcap 2 & dropout 0.1"],
    # batch, tokens, heads, kv_heads, head_dim
    "shape": [(1, 128, 4, 4, 64), (2, 97, 6, 2, 40), (1, 257, 8, 1, 32), (1, 150, 3, 3, 128), (3, 61, 2, 2, 7),
              (1, 200, 5, 5, 1), (1, 90, 2, 1, 256)],
    "sharding": ["contiguous", "striped", "zigzag"],
    "ranks": [1, 2, 3, 4, 8],
    "dtype": ["f64", "f32", "bf16", "f16"],
    "mode": [""],
}

# mask, score, shape, sharding, ranks, dtype, mode: the reproducible mode in every type, and dropout of several sequences.
MORE = [
    ("causal", "", (2, 97, 6, 2, 40), "striped", 4, "f64", "reproducible"),
    ("causal", "alibi", (1, 257, 8, 1, 32), "zigzag", 8, "f32", "reproducible"),
    ("causal & document", "dropout 0.2", (2, 97, 6, 2, 40), "contiguous", 3, "f32", "reproducible"),
    ("window:17,5", "softcap 1.5", (1, 150, 3, 3, 128), "striped", 2, "bf16", "reproducible"),
    ("full", "", (3, 61, 2, 2, 7), "contiguous", 1, "f16", "reproducible"),
    ("causal", "dropout 0.2", (2, 97, 6, 2, 40), "zigzag", 4, "f32", ""),
    ("full", "softcap 2 & dropout 0.1", (3, 61, 2, 2, 7), "striped", 3, "f32", ""),
]


@dataclass(frozen=True)
class Case:
    mask: str
    score: str
    shape: tuple
    sharding: str
    ranks: int
    dtype: str
    mode: str = ""

    @property
    def masks(self):
        return self.mask.split(" & ")

    def _score(self, name):
        return next((float(part.split()[1]) for part in self.score.split(" & ") if part.startswith(name + " ")), None)

    softcap = property(lambda self: self._score("softcap"))
    scale = property(lambda self: self._score("scale"))
    dropout = property(lambda self: self._score("dropout"))
    alibi = property(lambda self: "alibi" in self.score)
    seed = 12345

    @property
    def options(self):
        """The words that tell attend."""
        words = [word for mask in self.masks for word in ("--mask", mask)]
        words += ["--ranks", str(self.ranks), "--sharding", self.sharding, "--chunk", "40"]
        for name in ("softcap", "scale", "dropout"):
            if getattr(self, name) is not None:
                words += ["--" + name, str(getattr(self, name))]
        words += ["--seed", str(self.seed)] if self.dropout else []
        words += ["--alibi"] if self.alibi else []
        return words + (["--reproducible"] if self.mode else [])

    @property
    def name(self):
        batch, tokens, heads, kv_heads, head_dim = self.shape
        return (f"{self.dtype} {self.mask}, {self.score or 'plain'}, B={batch} S={tokens} H={heads}/{kv_heads} D={head_dim}, "
                f"{self.ranks} {self.sharding}{', ' + self.mode if self.mode else ''}")


def pairs(case):
    """Every two of its values, with the features they belong to."""
    return set(itertools.combinations(enumerate(case), 2))


def all_cases(features=FEATURES, seed=1):
    """Cases with every pair of values: each the best of some random ones that hold the first pair not yet there."""
    rng = random.Random(seed)
    values = list(features.values())
    missing = {((a, x), (b, y)) for a, b in itertools.combinations(range(len(values)), 2) for x in values[a] for y in values[b]}
    cases = []
    while missing:
        (a, x), (b, y) = min(missing, key=repr)
        tries = [[rng.choice(choices) for choices in values] for _ in range(50)]
        for case in tries:
            case[a], case[b] = x, y
        best = max(tries, key=lambda case: len(pairs(case) & missing))
        missing -= pairs(best)
        cases.append(Case(**dict(zip(features, best))))
    return cases + [Case(*more) for more in MORE]


def inputs(case, seed):
    """The tensors of a case's file, in its type; segment_ids of random lengths."""
    batch, tokens, heads, kv_heads, head_dim = case.shape
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads), ("grad_out", heads)):
        tensors[name] = rng.standard_normal((batch, tokens, count, head_dim)).astype(DTYPES[case.dtype])
    tensors["segment_ids"] = np.sort(rng.integers(0, 6, (batch, tokens)), axis=1).astype(np.int32)
    return tensors
