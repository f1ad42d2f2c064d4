"""Attention and its gradients in float64, as plainly as numpy has it: what both sides' errors are measured against."""

import numpy as np


def random_inputs(tokens, heads, head_dim, kind, seed):
    """q, k, v, grad_out: normally distributed, [4, tokens, heads, head_dim], float32 that `kind` holds without rounding."""
    x = np.random.default_rng(seed).standard_normal((4, tokens, heads, head_dim), np.float32)
    if kind == "bf16":
        bits = x.view(np.uint32)
        x = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)
    return x


def attention(given, mask, rows=512):
    """out, grad_q, grad_k, grad_v as [4, tokens, heads, head_dim], a head and `rows` queries at a time."""
    q, k, v, grad_out = given.astype(np.float64)
    tokens, heads, head_dim = q.shape
    result = np.zeros((4, *q.shape))
    out, grad_q, grad_k, grad_v = result
    for head in range(heads):
        for first in range(0, tokens, rows):
            mine = slice(first, min(first + rows, tokens))
            seen = slice(0, mine.stop if mask == "causal" else tokens)
            p = q[mine, head] @ k[seen, head].T / np.sqrt(head_dim)
            if mask == "causal":
                p[np.arange(seen.stop) > np.arange(mine.start, mine.stop)[:, None]] = -np.inf
            p = np.exp(p - p.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            out[mine, head] = p @ v[seen, head]
            delta = (out[mine, head] * grad_out[mine, head]).sum(axis=1, keepdims=True)
            ds = p * (grad_out[mine, head] @ v[seen, head].T - delta) / np.sqrt(head_dim)
            grad_q[mine, head] = ds @ k[seen, head]
            grad_k[seen, head] += ds.T @ q[mine, head]
            grad_v[seen, head] += p.T @ grad_out[mine, head]
    return result


def max_errors(computed, exact):
    """The largest absolute errors of out (forward) and of the three gradients (backward)."""
    error = np.abs(computed - exact)
    return {"forward": error[0].max(), "backward": error[1:].max()}
