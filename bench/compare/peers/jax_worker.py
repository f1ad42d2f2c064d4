"""The Ring Attention authors' side of the comparison: `ringattention` on RANKS devices of the host, sharded by sequence.

Arguments, inputs, outputs and what is printed are those of ../worker.cpp, with one argument more: sizes of its query and
key chunks, "512x512,1024x512". Every size is timed; the one to print under "forward" is the fastest forward, the one under
"backward" and "both" (forward and backward in one compiled function) the fastest there.
"""

import json
import os
import sys
import time
from functools import partial
from statistics import median

RANKS = int(sys.argv[6])
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={RANKS}"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ringattention import ringattention


def timed(calls, call):
    seconds = []
    jax.block_until_ready(call())
    for _ in range(calls):
        begin = time.perf_counter()
        result = jax.block_until_ready(call())
        seconds.append(time.perf_counter() - begin)
    return seconds, result


def attention_on(mesh, spec, mask, chunks):
    query_chunk, key_chunk = map(int, chunks.split("x"))
    blockwise = dict(
        causal_block_size=1 if mask == "causal" else None, deterministic=True, dropout_rng=None, attn_pdrop=0.0,
        query_chunk_size=query_chunk, key_chunk_size=key_chunk, dtype=np.float32,
        policy=jax.checkpoint_policies.nothing_saveable, precision=None, prevent_cse=False)

    @partial(jax.shard_map, mesh=mesh, in_specs=(spec, spec, spec), out_specs=spec, check_vma=False)
    def attention(q, k, v):
        return ringattention(q, k, v, None, None, None, "ring", True, blockwise)

    return attention


def main():
    tokens, heads, head_dim, mask, _, _, _, calls, inputs, outputs, candidates = sys.argv[1:]
    mesh = Mesh(np.array(jax.devices()[:RANKS]), ("ring",))
    spec = PartitionSpec(None, "ring", None, None)
    given = np.fromfile(inputs, np.float32).reshape(4, 1, int(tokens), int(heads), int(head_dim))
    q, k, v, grad_out = (jax.device_put(x, NamedSharding(mesh, spec)) for x in given)

    fastest = {}
    for chunks in candidates.split(","):
        attention = attention_on(mesh, spec, mask, chunks)
        forward, out = timed(int(calls), partial(jax.jit(attention), q, k, v))

        @jax.jit
        def both(q, k, v, grad_out):
            out, pull_back = jax.vjp(attention, q, k, v)
            return out, *pull_back(grad_out)

        @jax.jit
        def forward_to_backward(q, k, v):
            return jax.vjp(attention, q, k, v)[1]

        backward_alone = jax.jit(lambda pull_back, grad_out: pull_back(grad_out))
        backward, grads = timed(int(calls), partial(backward_alone, forward_to_backward(q, k, v), grad_out))
        both_seconds, _ = timed(int(calls), partial(both, q, k, v, grad_out))
        for name, seconds in {"forward": forward, "backward": backward, "both": both_seconds}.items():
            if name not in fastest or median(seconds) < median(fastest[name][0]):
                fastest[name] = seconds, chunks
    np.stack([np.asarray(x)[0] for x in (out, *grads)]).tofile(outputs)
    print(json.dumps({name: seconds for name, (seconds, _) in fastest.items()}
                     | {"chunks": {name: chunks for name, (_, chunks) in fastest.items()}, "version": jax.__version__}))


if __name__ == "__main__":
    main()
