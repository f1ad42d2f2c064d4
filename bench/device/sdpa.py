"""PyTorch's scaled_dot_product_attention on the GPU, with the shapes of `bench_device kernel` and a line of JSON for each.

Backends one by one, flash and cuDNN; forward, and backward alone. Exits with 77, after a line that says why, where there is no
PyTorch or no GPU.
"""

import argparse
import json
import sys


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=0.3)
    given = parser.parse_args()
    try:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except Exception as error:  # an installation can be broken in many ways
        print(f"PyTorch is not to be had: {error}")
        return 77
    if not torch.cuda.is_available():
        print(f"PyTorch {torch.__version__} sees no GPU")
        return 77

    def milliseconds(call):
        call()
        calls = 1
        while True:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            begin.record()
            for _ in range(calls):
                call()
            end.record()
            torch.cuda.synchronize()
            if begin.elapsed_time(end) >= 1e3 * given.seconds:
                return begin.elapsed_time(end) / calls
            calls *= 2

    backends = [("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)]
    for dim in (64, 128):
        for mask in ("full", "causal"):
            shape = (1, given.heads, given.tokens, dim)
            q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
            grad = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
            pairs = given.tokens * (given.tokens + 1) / 2 if mask == "causal" else given.tokens**2
            flops = 4.0 * pairs * given.heads * dim
            for name, backend in backends:

                def attention():
                    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=mask == "causal")

                try:
                    with sdpa_kernel(backend):
                        with torch.no_grad():
                            forward = milliseconds(attention)
                        out = attention()
                        backward = milliseconds(lambda: torch.autograd.grad(out, (q, k, v), grad, retain_graph=True))
                except RuntimeError as error:
                    print(f"{name}, {mask}, dim {dim}: {str(error).splitlines()[0]}", file=sys.stderr)
                    continue
                print(json.dumps({"part": "torch", "backend": name, "version": torch.__version__, "mask": mask,
                                  "tokens": given.tokens, "heads": given.heads, "dim": dim, "forward_ms": forward,
                                  "backward_ms": backward, "forward_tflops": flops / forward * 1e-9,
                                  "backward_tflops": 2.5 * flops / backward * 1e-9}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
