"""Peak memory and time of loading a model of a billion parameters.

    python benchmarks/loading.py [--dtype bfloat16] [--folder FOLDER]

writes a random Llama checkpoint (bfloat16, in shards; kept and used again if a folder is given), loads
it in a process of its own, and holds the peak against the model's size plus one tensor plus 300 MB.
Takes about a minute and 2.2 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MB = 1e6
ALLOWANCE = 300 * MB


def write(folder: Path) -> None:
    """A random checkpoint: TinyLlama's shape, 1.1 billion parameters, two layers to a shard."""
    import ml_dtypes
    import numpy as np
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    d, f, kv, layers, vocab = 2048, 5632, 256, 22, 32_000
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=d,
        intermediate_size=f,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=4,
    )
    config.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="a").save_pretrained(folder)
    shapes = {
        "input_layernorm": (d,),
        "self_attn.q_proj": (d, d),
        "self_attn.k_proj": (kv, d),
        "self_attn.v_proj": (kv, d),
        "self_attn.o_proj": (d, d),
        "post_attention_layernorm": (d,),
        "mlp.gate_proj": (f, d),
        "mlp.up_proj": (f, d),
        "mlp.down_proj": (d, f),
    }
    shards = [{"model.embed_tokens": (vocab, d), "model.norm": (d,), "lm_head": (vocab, d)}]
    for first in range(0, layers, 2):
        pair = (first, first + 1)
        shards.append({f"model.layers.{i}.{name}": shape for i in pair for name, shape in shapes.items()})
    rng, places = np.random.default_rng(0), {}
    for number, shard in enumerate(shards):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {
            f"{name}.weight": rng.normal(0, 0.02, shape).astype(ml_dtypes.bfloat16)
            for name, shape in shard.items()
        }
        save_file(tensors, folder / file)
        places |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def measure(folder: Path, dtype: str) -> None:
    """Loads the checkpoint in this process and prints what it took."""
    # mpt never needs torch, but transformers imports it, all 250 MB, where it is installed.
    sys.modules["torch"] = None  # type: ignore[assignment]

    import jax
    import jax.numpy as jnp
    from flax import nnx

    from mpt.loading.hf import load_pretrained

    del sys.modules["torch"]
    jax.block_until_ready(jnp.zeros(1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.perf_counter()
    backbone = load_pretrained(str(folder), dtype=jnp.dtype(dtype)).backbone
    leaves = jax.block_until_ready(jax.tree.leaves(nnx.state(backbone)))
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = sum(leaf.nbytes for leaf in leaves)
    tensor = max(leaf.nbytes // (leaf.shape[0] if leaf.ndim > 2 else 1) for leaf in leaves)
    bound = size + tensor + ALLOWANCE
    print(f"parameters    {sum(leaf.size for leaf in leaves) / 1e9:8.2f} billion, {dtype}")
    print(f"model         {size / MB:8.0f} MB; largest tensor {tensor / MB:.0f} MB")
    print(f"process       {before / MB:8.0f} MB with JAX and transformers imported, before loading")
    print(f"peak          {peak / MB:8.0f} MB, {(peak - before) / MB:.0f} MB of it for loading")
    print(f"bound         {bound / MB:8.0f} MB: {'held' if peak <= bound else 'EXCEEDED'}")
    print(f"time          {took:8.1f} s, hashing the files included")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dtype", default="bfloat16", help="type of the weights")
    parser.add_argument("--folder", type=Path, help="where the checkpoint is or will be kept")
    parser.add_argument("--step", choices=("write", "measure"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "write":
        return write(options.folder)
    if options.step == "measure":
        return measure(options.folder, options.dtype)
    # Each step has a process of its own: a child's peak memory begins with its parent's.
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--folder", str(folder), "--dtype", options.dtype, "--step"]
        if not (folder / "config.json").exists():
            subprocess.run([*command, "write"], check=True)
        subprocess.run([*command, "measure"], check=True)


if __name__ == "__main__":
    main()
