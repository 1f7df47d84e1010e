"""sentence-transformers' side of `scripts/bench-peers`: the same lines as `cargo bench --bench embed -- --json`, and the
cosines between its vectors and ours.
"""
import argparse
import json
import statistics
import time
from pathlib import Path


def report(**finding):
    print(json.dumps(finding), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", required=True, help="a JSON list of texts")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compare", help="our vectors of the same texts: f32, row after row")
    options = parser.parse_args()
    import numpy
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(options.threads)
    model = SentenceTransformer(options.model, device="cpu")
    texts = json.loads(Path(options.texts).read_text(encoding="utf-8"))
    model.encode(texts[:64])
    seconds, queries = [], []
    for _ in range(options.rounds):
        started = time.perf_counter()
        vectors = model.encode(texts, batch_size=32, convert_to_numpy=True, normalize_embeddings=True)
        seconds.append(time.perf_counter() - started)
    for _ in range(30):
        started = time.perf_counter()
        model.encode("How do I change the color of the chat button?")
        queries.append(time.perf_counter() - started)
    report(what="embed", texts=len(texts), seconds=seconds, texts_s=len(texts) / statistics.median(seconds))
    report(what="query", ms=statistics.median(queries) * 1000)
    if options.compare:
        ours = numpy.fromfile(options.compare, dtype="<f4").reshape(len(texts), -1).astype(numpy.float64)
        exact = model.encode(texts, batch_size=1, convert_to_numpy=True, normalize_embeddings=True)
        cosines = (ours * exact).sum(1) / numpy.linalg.norm(ours, axis=1)
        report(what="cosine", least=float(cosines.min()), median=float(numpy.median(cosines)))


if __name__ == "__main__":
    main()
