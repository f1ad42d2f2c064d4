"""PyTorch's side of the comparison: scaled_dot_product_attention with the flash backend, forward and backward.

Arguments, inputs, outputs and what is printed are those of ../worker.cpp; RANKS has to be 1.
"""

import json
import sys
import time

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention


def timed(calls, call):
    seconds = []
    call()
    for _ in range(calls):
        begin = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - begin)
    return seconds, result


def main():
    tokens, heads, head_dim, mask, kind, _, threads, calls, inputs, outputs = sys.argv[1:]
    torch.set_num_threads(int(threads))
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[kind]
    given = np.fromfile(inputs, np.float32).reshape(4, int(tokens), int(heads), int(head_dim))
    # Its own order in memory: [batch, heads, tokens, head_dim].
    q, k, v, grad_out = (torch.from_numpy(x).transpose(0, 1)[None].to(dtype).contiguous() for x in given)

    def attention():
        return scaled_dot_product_attention(q, k, v, is_causal=mask == "causal")

    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        with torch.no_grad():
            forward, out = timed(int(calls), attention)
        for x in (q, k, v):
            x.requires_grad_()
        graph = attention()
        backward, grads = timed(int(calls), lambda: torch.autograd.grad(graph, (q, k, v), grad_out, retain_graph=True))

    np.stack([x[0].transpose(0, 1).float().numpy() for x in (out, *grads)]).tofile(outputs)
    print(json.dumps({"forward": forward, "backward": backward, "version": torch.__version__}))


if __name__ == "__main__":
    main()
