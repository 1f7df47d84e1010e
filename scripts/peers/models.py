"""Synthetic models: random weights in the shape of Qwen3-0.6B, for speed only (what it writes is noise).

usage: python scripts/peers/models.py FOLDER KIND...   (KIND: q4_k_m, q8_0, q4_0)

Weights are written as F16 with the `gguf` package and quantized by llama.cpp's own quantizer, so that the mix of
formats in a file is the one that published files have. Prints the files, one a line.
"""
import ctypes
import math
import sys
from pathlib import Path

SHAPE = {
    "layers": 28, "hidden": 1024, "heads": 16, "kv_heads": 8, "head_dim": 128, "ffn": 3072, "vocab": 151_936,
    "context": 40_960,
}
# llama_ftype of llama.h
KINDS = {"q4_0": 2, "q8_0": 7, "q4_k_m": 15}
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(spare)) for b in range(256)]


def vocabulary(size):
    """Byte-level BPE: all bytes, then pairs, then triples, each with the merge that makes it."""
    alphabet = byte_alphabet()
    tokens, merges = list(alphabet), []
    def halves():
        yield from ((a, b) for a in alphabet for b in alphabet)
        yield from ((a + b, c) for a in alphabet for b in alphabet for c in alphabet)
    for left, right in halves():
        if len(tokens) == size - len(SPECIALS):
            break
        tokens.append(left + right)
        merges.append(f"{left} {right}")
    return tokens, merges


def write_f16(path):
    import numpy as np
    from gguf import GGUFWriter, TokenType

    s = SHAPE
    writer = GGUFWriter(str(path), "qwen3", use_temp_file=True)
    writer.add_block_count(s["layers"])
    writer.add_context_length(s["context"])
    writer.add_embedding_length(s["hidden"])
    writer.add_feed_forward_length(s["ffn"])
    writer.add_head_count(s["heads"])
    writer.add_head_count_kv(s["kv_heads"])
    writer.add_key_length(s["head_dim"])
    writer.add_value_length(s["head_dim"])
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(1)
    tokens, merges = vocabulary(s["vocab"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens + SPECIALS)
    writer.add_token_types([TokenType.NORMAL] * len(tokens) + [TokenType.CONTROL] * len(SPECIALS))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(tokens))
    writer.add_eos_token_id(len(tokens) + 2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    rng = np.random.default_rng(3)

    def matrix(name, rows, cols):
        weights = rng.standard_normal((rows, cols), dtype=np.float32) / math.sqrt(cols)
        writer.add_tensor(name, weights.astype(np.float16))

    def ones(name, size):
        writer.add_tensor(name, np.ones(size, dtype=np.float32))

    wide, narrow = s["heads"] * s["head_dim"], s["kv_heads"] * s["head_dim"]
    matrix("token_embd.weight", s["vocab"], s["hidden"])
    for layer in range(s["layers"]):
        part = f"blk.{layer}."
        ones(part + "attn_norm.weight", s["hidden"])
        matrix(part + "attn_q.weight", wide, s["hidden"])
        matrix(part + "attn_k.weight", narrow, s["hidden"])
        matrix(part + "attn_v.weight", narrow, s["hidden"])
        ones(part + "attn_q_norm.weight", s["head_dim"])
        ones(part + "attn_k_norm.weight", s["head_dim"])
        matrix(part + "attn_output.weight", s["hidden"], wide)
        ones(part + "ffn_norm.weight", s["hidden"])
        matrix(part + "ffn_gate.weight", s["ffn"], s["hidden"])
        matrix(part + "ffn_up.weight", s["ffn"], s["hidden"])
        matrix(part + "ffn_down.weight", s["hidden"], s["ffn"])
    ones("output_norm.weight", s["hidden"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(source, target, kind):
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = KINDS[kind]
    part = target.with_suffix(".part")
    failed = llama_cpp.llama_model_quantize(str(source).encode(), str(part).encode(), ctypes.byref(params))
    if failed:
        sys.exit(f"llama.cpp could not quantize {source} to {kind} (status {failed})")
    part.rename(target)


def main():
    if len(sys.argv) < 3 or "--help" in sys.argv or not set(sys.argv[2:]) <= set(KINDS):
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "qwen3-0.6b-shape.f16.gguf"
    for kind in sys.argv[2:]:
        target = folder / f"qwen3-0.6b-shape.{kind}.gguf"
        if not target.exists():
            if not source.exists():
                part = source.with_suffix(".part")
                write_f16(part)
                part.rename(source)
            quantize(source, target, kind)
        print(target)
    source.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
