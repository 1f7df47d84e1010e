#!/usr/bin/env python3
"""How far llama.cpp agrees with itself, and how far we agree with it: best next tokens on one text, teacher-forced.

Runs llama.cpp on a GGUF file once for each way of computing that its users choose between (batch size, flash attention,
precision of the KV cache, threads, repacked weights, its tiled product) and once on the same weights widened to F32, and
prints which share of the text's best next tokens is equal between each pair of runs, with each run's perplexity. With
`--ours` (the bench `decoder`, built) our backends join as further runs. Then it asks the model four short questions, to
show the first token's probabilities and the greedy answer in each run.

usage: agreement.py [--model FILE.gguf] [--text FILE] [--tokens 2000] [--ours PROGRAM] [--questions-only]
needs: numpy, gguf and llama-cpp-python (scripts/bench-peers makes such an environment)
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
STARTER = Path.home() / ".cache/firstline/models/smollm2-135m-instruct-q4_1/SmolLM2-135M-Instruct.Q4_1.gguf"
QUESTIONS = [
    "What is the capital of France?",
    "What's the capital of France?",
    "Which city is the capital of France?",
    "Name the capital of France.",
]
PLAIN = {"ubatch": 512, "flash": 1, "kv": 1, "threads": 1, "repack": True, "tiled": True, "widened": False}
# Each differs from the first in what it names. `kv` is a ggml type: 0 is F32, 1 is F16.
RUNS = {
    "plain": {},
    "ubatch 1": {"ubatch": 1},
    "flash off": {"flash": 0},
    "KV F32": {"kv": 0},
    "flash off, KV F32": {"flash": 0, "kv": 0},
    "2 threads": {"threads": 2},
    "no repack": {"repack": False},
    "no tiles": {"tiled": False},
    "no repack, no tiles": {"repack": False, "tiled": False},
    "widened to F32": {"widened": True, "kv": 0, "flash": 0},
}


def child(job):
    """One run of llama.cpp, in a process of its own (its switches are read once)."""
    import llama_cpp as ll
    import numpy as np

    quiet = ll.llama_log_callback(lambda level, text, data: None)
    ll.llama_log_set(quiet, None)
    ll.llama_backend_init()
    params = ll.llama_model_default_params()
    params.use_extra_bufts = job["repack"]
    model = ll.llama_model_load_from_file(job["model"].encode(), params)
    if not model:
        sys.exit(f"llama.cpp cannot load {job['model']}")
    vocab_of = ll.llama_model_get_vocab(model)
    vocab = ll.llama_vocab_n_tokens(vocab_of)

    def encode(text, special):
        room = (ll.llama_token * (len(text.encode()) + 8))()
        raw = text.encode()
        return list(room[: ll.llama_tokenize(vocab_of, raw, len(raw), room, len(room), False, special)])

    def decode(token):
        room = (ll.ctypes.c_char * 64)()
        return bytes(room[: ll.llama_token_to_piece(vocab_of, token, room, 64, 0, True)])

    def context(size):
        cp = ll.llama_context_default_params()
        cp.n_ctx, cp.n_batch, cp.n_ubatch = size, max(512, job["ubatch"]), job["ubatch"]
        cp.n_threads = cp.n_threads_batch = job["threads"]
        cp.flash_attn_type, cp.type_k, cp.type_v = job["flash"], job["kv"], job["kv"]
        made = ll.llama_init_from_model(model, cp)
        return made or sys.exit("llama.cpp gives no context for this run")

    batch = ll.llama_batch_init(512, 0, 1)

    def rows(ctx, tokens, start):
        """Log probabilities after each of the tokens, 512 at a time."""
        for first in range(0, len(tokens), 512):
            part = tokens[first : first + 512]
            batch.n_tokens = len(part)
            for i, token in enumerate(part):
                batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, start + first + i, 1
                batch.seq_id[i][0], batch.logits[i] = 0, True
            if ll.llama_decode(ctx, batch):
                sys.exit("llama_decode failed")
            for i in range(len(part)):
                logits = np.ctypeslib.as_array(ll.llama_get_logits_ith(ctx, i), (vocab,)).astype(np.float64)
                logits -= logits.max()
                yield logits - np.log(np.exp(logits).sum())

    out = {"top": [], "answers": []}
    if job["tokens"]:
        text = Path(job["text"]).read_text(encoding="utf-8")
        tokens = encode(text, False)[: job["tokens"]]
        ctx, loss = context(len(tokens) + 8), 0.0
        for i, logprobs in enumerate(rows(ctx, tokens, 0)):
            out["top"].append(int(logprobs.argmax()))
            if i + 1 < len(tokens):
                loss -= logprobs[tokens[i + 1]]
        out["perplexity"] = float(np.exp(loss / (len(tokens) - 1)))
        ll.llama_free(ctx)
    for question in job["questions"]:
        prompt = ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
                  f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
        tokens, ctx = encode(prompt, True), context(256)
        logprobs = list(rows(ctx, tokens, 0))[-1]
        first = [(decode(int(t)).decode(errors="replace"), round(float(logprobs[t]), 2)) for t in logprobs.argsort()[::-1][:3]]
        answer, position = b"", len(tokens)
        for _ in range(24):
            token = int(logprobs.argmax())
            if ll.llama_vocab_is_eog(vocab_of, token):
                break
            answer += decode(token)
            logprobs = next(rows(ctx, [token], position))
            position += 1
        out["answers"].append({"question": question, "first": first, "answer": answer.decode(errors="replace")})
        ll.llama_free(ctx)
    print(json.dumps(out))


def widen(path, to):
    """The same model with F32 weights, which llama.cpp multiplies without rounding activations to 8 bits."""
    import ctypes

    import llama_cpp as ll

    quiet = ll.llama_log_callback(lambda level, text, data: None)
    ll.llama_log_set(quiet, None)
    params = ll.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = 0, True
    if ll.llama_model_quantize(str(path).encode(), str(to).encode(), ctypes.byref(params)):
        sys.exit(f"llama.cpp could not widen {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=STARTER)
    parser.add_argument("--text", type=Path, default=ROOT / "tests/golden/english.txt")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--ours", help="our bench `decoder`, built: its backends join the table")
    parser.add_argument("--questions-only", action="store_true", help="leave out the text")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(json.loads(options.child))
    tokens = 0 if options.questions_only else options.tokens
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        widened = Path(folder) / "widened.gguf"
        widen(options.model, widened)
        for name, differs in RUNS.items():
            print(f"llama.cpp: {name}", file=sys.stderr, flush=True)
            job = {**PLAIN, **differs, "tokens": tokens, "text": str(options.text), "questions": QUESTIONS}
            job["model"] = str(widened if job["widened"] else options.model)
            environment = {**os.environ, "GGML_CPU_TILED_MM": str(int(job["tiled"]))}
            command = [sys.executable, __file__, "--child", json.dumps(job)]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                # GCC 12 drops the stores of llama.cpp's AMX tile configuration: such a build dies of SIGILL.
                print(f"llama.cpp: {name} ended with status {done.returncode}; left out", file=sys.stderr)
                continue
            found[name] = json.loads(done.stdout)
    if options.ours and tokens:
        for backend, weights in (("native", "auto"), ("candle", "dense")):
            name = f"ours, {backend}"
            print(name, file=sys.stderr, flush=True)
            command = [options.ours, "--json", "--model", options.model, "--backend", backend, "--weights", weights]
            command += ["--predict", options.text, "--predict-tokens", tokens]
            done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
    if tokens:
        names = list(found)
        print(f"{options.text.name}, {tokens} tokens, {options.model.name}: equal best next tokens, %\n")
        print("| | perplexity | " + " | ".join(str(i + 1) for i in range(len(names))) + " |")
        print("|---" * (len(names) + 2) + "|")
        for i, name in enumerate(names):
            a = found[name]["top"]
            cells = []
            for other in names:
                b = found[other]["top"]
                cells.append(f"{100 * sum(x == y for x, y in zip(a, b)) / len(a):.2f}")
            print(f"| {i + 1} {name} | {found[name]['perplexity']:.3f} | " + " | ".join(cells) + " |")
        print()
    for name, run in found.items():
        for answer in run.get("answers", []):
            first = ", ".join(f"{token!r} {logprob}" for token, logprob in answer["first"])
            print(f"{name}: {answer['question']} [{first}] {answer['answer']!r}")


if __name__ == "__main__":
    main()
