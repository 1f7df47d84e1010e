"""llama.cpp's side of `scripts/bench-peers`: the same measurements, in the same lines, as `cargo bench --bench decoder
-- --json`. It goes through llama.cpp's C interface (llama-cpp-python's bindings): no sampling, no server.
"""
import argparse
import json
import statistics
import time

import llama_cpp as ll


def report(**finding):
    print(json.dumps(finding), flush=True)


def resident_mib():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) // 1024


class Model:
    def __init__(self, path, threads):
        ll.llama_backend_init()
        self.model = ll.llama_model_load_from_file(str(path).encode(), ll.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        self.vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self.model))
        self.threads = threads
        self.ctx = self.memory = self.batch = None

    def context(self, sequences, tokens):
        """A context for `sequences` of `tokens` each, in place of the one before."""
        if self.ctx:
            ll.llama_batch_free(self.batch)
            ll.llama_free(self.ctx)
        params = ll.llama_context_default_params()
        params.n_ctx = sequences * tokens
        params.n_seq_max = sequences
        params.n_batch = 2048
        params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = self.threads
        self.ctx = ll.llama_init_from_model(self.model, params)
        if not self.ctx:
            raise SystemExit(f"llama.cpp gives no context of {params.n_ctx} tokens")
        self.memory = ll.llama_get_memory(self.ctx)
        self.batch = ll.llama_batch_init(2048, 0, 1)

    def token(self, i):
        """Any token; our side reads the same ones."""
        return (i * 7919 + 13) % self.vocab

    def decode(self, entries):
        """One batch of (token, position, sequence, wants logits)."""
        batch = self.batch
        batch.n_tokens = len(entries)
        for i, (token, position, sequence, logits) in enumerate(entries):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = logits
        status = ll.llama_decode(self.ctx, batch)
        if status:
            raise SystemExit(f"llama_decode failed with status {status}")
        ll.llama_synchronize(self.ctx)

    def read_prompt(self, tokens, sequence=0):
        for start in range(0, tokens, 2048):
            end = min(tokens, start + 2048)
            self.decode([(self.token(i), i, sequence, i == tokens - 1) for i in range(start, end)])

    def forget(self, sequence, position):
        ll.llama_memory_seq_rm(self.memory, sequence, position, -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompts", default="512")
    parser.add_argument("--streams", default="1,8")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    quiet = ll.llama_log_callback(lambda level, text, data: None)
    ll.llama_log_set(quiet, None)

    started = time.perf_counter()
    model = Model(options.model, options.threads)
    report(what="load", seconds=[time.perf_counter() - started], rss_mib=resident_mib())
    report(what="system", info=ll.llama_print_system_info().decode())

    for tokens in map(int, options.prompts.split(",")):
        model.context(1, tokens)
        model.read_prompt(min(tokens, 64))  # the first pass makes its graph and touches its memory
        seconds = []
        for _ in range(options.rounds):
            model.forget(0, 0)
            started = time.perf_counter()
            model.read_prompt(tokens)
            seconds.append(time.perf_counter() - started)
        report(what="prefill", tokens=tokens, seconds=seconds, tok_s=tokens / statistics.median(seconds))

    for streams in map(int, options.streams.split(",")):
        model.context(streams, options.context + options.steps)
        for stream in range(streams):
            model.read_prompt(options.context, stream)
        seconds = []
        for _ in range(options.rounds):
            started = time.perf_counter()
            for step in range(options.steps):
                position = options.context + step
                model.decode([(model.token(s * 1000 + step), position, s, True) for s in range(streams)])
            seconds.append(time.perf_counter() - started)
            for stream in range(streams):
                model.forget(stream, options.context)
        rate = streams * options.steps / statistics.median(seconds)
        report(what="decode", streams=streams, context=options.context, steps=options.steps, seconds=seconds, tok_s=rate)
    report(what="memory", rss_mib=resident_mib())


if __name__ == "__main__":
    main()
