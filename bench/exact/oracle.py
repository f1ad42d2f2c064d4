"""Attention and its gradients by their formulas, on whole tensors, in any precision numpy has. It shares nothing with Rondo.

    s = scale q.k;  s = X tanh(s/X);  s -= slope |i-j|;  masked: -inf;  p = softmax(s);  lse = log sum e^s
    dropped: p' = p keep / (1 - P);  out = p' v
"""

import numpy as np


def allowed(masks, tokens, segment_ids):
    """[batch or 1, query, key]: which keys each query may see, under all of the masks."""
    i, j = np.arange(tokens)[:, None], np.arange(tokens)[None, :]
    result = np.ones((1, tokens, tokens), bool)
    for mask in masks:
        kind, _, numbers = mask.partition(":")
        numbers = [int(number) for number in numbers.split(",") if number]
        if kind == "causal":
            result = result & (j <= i)
        elif kind == "window":
            result = result & (i - numbers[0] <= j) & (j <= i + numbers[1])
        elif kind == "prefix":
            result = result & ((j <= i) | (j < numbers[0]))
        elif kind == "chunked":
            result = result & (i // numbers[0] == j // numbers[0])
        elif kind == "document":
            result = result & (segment_ids[:, :, None] == segment_ids[:, None, :])
        elif kind != "full":
            raise ValueError(f"no mask {mask}")
    return result


def alibi_slopes(heads):
    """As published (arXiv 2108.12409, and its authors' code where the heads are no power of two)."""
    power = 2 ** int(np.floor(np.log2(heads)))
    slopes = [2.0 ** (-8 * h / power) for h in range(1, power + 1)]
    return np.array(slopes + [2.0 ** (-8 * h / (2 * power)) for h in range(1, 2 * power + 1, 2)][: heads - power])


def philox(counter, key, words):
    """Philox of 10 rounds on arrays of 32-bit words (Salmon et al., SC 2011): `words` is 2 or 4."""
    counter = [np.asarray(c, np.uint64) for c in counter]
    low, high = np.asarray(key, np.uint64) & 0xFFFFFFFF, np.asarray(key, np.uint64) >> np.uint64(32)
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        if words == 2:
            product = counter[0] * np.uint64(0xD256D193)
            counter = [(product >> half) ^ low ^ counter[1], product & mask]
        else:
            a, b = counter[0] * np.uint64(0xD2511F53), counter[2] * np.uint64(0xCD9E8D57)
            counter = [(b >> half) ^ counter[1] ^ low, b & mask, (a >> half) ^ counter[3] ^ high, a & mask]
        low, high = (low + np.uint64(0x9E3779B9)) & mask, (high + np.uint64(0xBB67AE85)) & mask
    return counter


def kept(probability, seed, batch, heads, tokens):
    """[batch, head, query, key]: which probabilities dropout leaves, as Rondo's dropout says."""
    b, h, i, j = np.meshgrid(*(np.arange(n) for n in (batch, heads, tokens, tokens)), indexing="ij", sparse=True)
    first = philox((b, h, np.zeros_like(b), np.zeros_like(b)), seed, 4)
    number = philox((j.astype(np.uint64) ^ first[1], i.astype(np.uint64) ^ first[2]), first[0], 2)[0]
    return number >= np.uint64(probability * 2**32)


def attention(tensors, case, precision, stored=None):
    """out, lse and, with grad_out, the gradients, computed in `precision` and, if given, rounded to `stored` once."""
    store = (lambda x: x) if stored is None else (lambda x: x.astype(stored).astype(precision))
    tensors = {name: x if name == "segment_ids" else x.astype(precision) for name, x in tensors.items()}
    q, k, v = (np.moveaxis(tensors[name], 1, 2) for name in "qkv")  # [batch, heads, tokens, head_dim]
    batch, heads, tokens, head_dim = q.shape
    group = heads // k.shape[1]
    k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
    scale = precision(case.scale) if case.scale is not None else 1 / np.sqrt(precision(head_dim))

    s = scale * (q @ np.swapaxes(k, 2, 3))
    slope = 1
    if case.softcap is not None:
        t = np.tanh(s / precision(case.softcap))
        s, slope = precision(case.softcap) * t, 1 - t * t
    if case.alibi:
        distance = np.abs(np.arange(tokens)[:, None] - np.arange(tokens)[None, :])
        s = s - alibi_slopes(heads).astype(precision)[:, None, None] * distance.astype(precision)
    s = np.where(allowed(case.masks, tokens, tensors.get("segment_ids"))[:, None], s, -np.inf)
    m = s.max(3, keepdims=True)
    e = np.exp(s - m)
    total = e.sum(3, keepdims=True)
    p = e / total
    lse = m + np.log(total)
    weight = 1
    if case.dropout:
        weight = kept(case.dropout, case.seed, batch, heads, tokens) / precision(1 - case.dropout)
    out = store((p * weight) @ v)
    result = {"out": np.moveaxis(out, 1, 2), "lse": lse[..., 0]}
    if "grad_out" in tensors:
        p = np.exp(s - lse)  # as a backward pass has it that is given lse
        grad_out = np.moveaxis(tensors["grad_out"], 1, 2)
        dp = (grad_out @ np.swapaxes(v, 2, 3)) * weight
        ds = p * (dp - (out * grad_out).sum(3, keepdims=True)) * slope * scale
        by_group = lambda x: x.reshape(batch, heads // group, group, tokens, head_dim).sum(2)
        gradients = {"grad_q": ds @ k, "grad_k": by_group(np.swapaxes(ds, 2, 3) @ q),
                     "grad_v": by_group(np.swapaxes(p * weight, 2, 3) @ grad_out)}
        result |= {name: store(np.moveaxis(x, 1, 2)) for name, x in gradients.items()}
    return result
