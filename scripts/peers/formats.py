#!/usr/bin/env python3
"""What our backends make of every format: the starter model requantized by llama.cpp, and the perplexity of one text.

The model is widened to F16 and written in each format; for each file the `native` backend and `candle` with exact products
(weights widened to F32) read the same text. The bar is a difference of 0.5 %. K-quants need rows of a multiple of 256; in
the starter only the MLP's last matrix has them, and llama.cpp puts another format in the place of the others: the formats
that a file really has are printed.

usage: formats.py --ours PROGRAM [--model FILE.gguf] [--text FILE] [--tokens 2000] [--folder FOLDER] [KIND...]
  --ours     the bench `decoder`, built
  --folder   where the files are kept (default: a folder that is removed at the end)
needs: gguf and llama-cpp-python (scripts/bench-peers makes such an environment)
"""
import argparse
import collections
import ctypes
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
STARTER = Path.home() / ".cache/firstline/models/smollm2-135m-instruct-q4_1/SmolLM2-135M-Instruct.Q4_1.gguf"
# llama_ftype of llama.h
KINDS = {
    "F16": 1, "BF16": 32, "Q4_0": 2, "Q4_1": 3, "Q5_0": 8, "Q5_1": 9, "Q8_0": 7, "Q4_K": 14, "Q5_K": 16, "Q6_K": 18,
}


def quantize(source, target, kind):
    import llama_cpp

    if target.exists():
        return
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, None)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = KINDS[kind]
    params.allow_requantize = True
    part = target.with_suffix(".part")
    failed = llama_cpp.llama_model_quantize(str(source).encode(), str(part).encode(), ctypes.byref(params))
    if failed:
        sys.exit(f"formats.py: llama.cpp could not write {kind} (status {failed})")
    part.rename(target)


def formats_of(path):
    from gguf import GGUFReader

    counts = collections.Counter(t.tensor_type.name for t in GGUFReader(path).tensors if len(t.shape) > 1)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def perplexity(options, path, backend):
    command = [options.ours, "--json", "--model", path, "--predict", options.text, "--predict-tokens", options.tokens]
    command += ["--backend", backend, *(["--weights", "dense"] if backend == "candle" else [])]
    out = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    if out.returncode:
        sys.exit(f"formats.py: {' '.join(map(str, command))} ended with status {out.returncode}")
    found = json.loads(next(line for line in out.stdout.splitlines() if line.startswith("{")))
    return found["perplexity"], found["top"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--model", default=STARTER)
    parser.add_argument("--text", default=ROOT / "tests/golden/english.txt")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("kinds", nargs="*", metavar="KIND", default=list(KINDS))
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(KINDS):
        sys.exit(f"formats.py: unknown: {', '.join(sorted(unknown))}; known are {', '.join(KINDS)}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        wide = folder / "F16.gguf"
        quantize(options.model, wide, "F16")
        print("| format | matrices | candle, exact | native | difference | best next token equal |\n|---|---|---|---|---|---|")
        for kind in options.kinds:
            path = folder / f"{kind}.gguf"
            quantize(wide, path, kind)
            (exact, top), (native, ours) = perplexity(options, path, "candle"), perplexity(options, path, "native")
            equal = sum(a == b for a, b in zip(top, ours)) / len(top)
            print(f"| {kind} | {formats_of(path)} | {exact:.3f} | {native:.3f} | {100 * (native / exact - 1):+.2f} % | "
                  f"{100 * equal:.1f} % |", flush=True)
            if not options.folder and path != wide:
                path.unlink()


if __name__ == "__main__":
    main()
