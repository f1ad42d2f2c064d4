"""PyTorch's results for a case, in the ways it has: each is {name of result: array in float64}.

 - "SDPA": scaled_dot_product_attention, forward and backward; masks only, it has no softcap and its dropout draws other numbers
 - "flex": flex_attention; no dropout. (Its front door refuses gradients on processors; the operator behind it has them.)
 - "ops": the formulas in PyTorch's own operations and their automatic derivatives: products in the type, softmax in float32
   where that is narrower
"""

import warnings

import numpy as np
import torch
from oracle import alibi_slopes, allowed, kept
from torch._higher_order_ops.flex_attention import flex_attention as flex_operator
from torch.nn.attention.flex_attention import create_block_mask
from torch.nn.functional import scaled_dot_product_attention

warnings.filterwarnings("ignore", message=".*flex_attention.*")
GRADIENTS = ("grad_q", "grad_k", "grad_v")


def to_torch(x):
    if x.dtype.name == "bfloat16":
        return torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(x.copy())


def to_numpy(x):
    return x.detach().double().numpy()


def with_gradients(attention, q, k, v, grad_out, extra=()):
    """Results of attention(q, k, v), which returns out and, after it, what `extra` names; heads before tokens."""
    leaves = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    values = attention(*leaves)
    gradients = torch.autograd.grad(values[0], leaves, grad_out)
    result = dict(zip(GRADIENTS, (to_numpy(x.transpose(1, 2)) for x in gradients)))
    return result | {"out": to_numpy(values[0].transpose(1, 2))} | dict(zip(extra, map(to_numpy, values[1:])))


def results(case, tensors):
    q, k, v, grad_out = (to_torch(tensors[name]).transpose(1, 2) for name in ("q", "k", "v", "grad_out"))
    batch, heads, tokens, head_dim = q.shape
    group = heads // k.shape[1]
    mask = torch.from_numpy(allowed(case.masks, tokens, tensors["segment_ids"]))[:, None].expand(batch, 1, tokens, tokens)
    scale = case.scale if case.scale is not None else head_dim**-0.5
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    slopes = torch.from_numpy(alibi_slopes(heads)).to(wide)
    found = {}

    if case.softcap is None and not case.alibi and not case.dropout:
        how = {"is_causal": True} if case.mask == "causal" else {} if case.mask == "full" else {"attn_mask": mask}

        def sdpa(q, k, v):
            return (scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=group > 1, **how),)

        found["SDPA"] = with_gradients(sdpa, q, k, v, grad_out)

    if not case.dropout:
        def score_mod(score, b, h, i, j):
            if case.softcap is not None:
                score = case.softcap * torch.tanh(score / case.softcap)
            return score - slopes[h] * (i - j).abs() if case.alibi else score

        block_mask = create_block_mask(lambda b, h, i, j: mask[b, 0, i, j], batch, None, tokens, tokens, device="cpu")

        def flex(q, k, v):
            out, lse2 = flex_operator(q, k, v, score_mod, block_mask.as_tuple(), scale, {}, (), ())[:2]
            return out, lse2 * np.log(2.0)

        found["flex"] = with_gradients(flex, q, k, v, grad_out, extra=("lse",))

    weight = 1
    if case.dropout:
        weight = torch.from_numpy(kept(case.dropout, case.seed, batch, heads, tokens)).to(wide) / (1 - case.dropout)

    def ops(q, k, v):
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        s = (scale * (q @ k.transpose(2, 3))).to(wide)
        if case.softcap is not None:
            s = case.softcap * torch.tanh(s / case.softcap)
        if case.alibi:
            at = torch.arange(tokens)
            s = s - slopes[:, None, None] * (at[:, None] - at[None, :]).abs()
        s = s.masked_fill(~mask, float("-inf"))
        return (torch.softmax(s, 3) * weight).to(q.dtype) @ v, torch.logsumexp(s, 3)

    found["ops"] = with_gradients(ops, q, k, v, grad_out, extra=("lse",))
    return found
