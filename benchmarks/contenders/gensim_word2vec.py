"""word2vec by gensim: python gensim_word2vec.py WORK.json. Prints one JSON line; writes the vectors in word2vec's binary format.

`mode` is `lists`, sentences as lists of words in memory, or `file`, gensim's own fast path, which reads a text file in several threads.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from gensim.models import Word2Vec


def main() -> None:
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    begin = time.perf_counter()
    corpus = Path(work["corpus"])
    model = Word2Vec(
        vector_size=work["size"],
        window=work["window"],
        negative=work["negative"],
        min_count=work["min_count"],
        sample=work["subsample"],
        alpha=work["lr"],
        min_alpha=work["lr"] * work["final_factor"],
        sg=int(work["architecture"] == "skip-gram"),
        seed=work["seed"],
        workers=work["threads"],
    )
    if work["mode"] == "file":
        model.build_vocab(corpus_file=str(corpus))
    else:
        with corpus.open(encoding="utf-8") as file:
            sentences = [words for words in (line.split() for line in file) if words]
        model.build_vocab(sentences)
    ready, busy = time.perf_counter(), time.process_time()
    given = (
        {"corpus_file": str(corpus), "total_words": model.corpus_total_words}
        if work["mode"] == "file"
        else {"corpus_iterable": sentences}
    )
    model.train(total_examples=model.corpus_count, epochs=work["epochs"], **given)
    done = time.perf_counter()
    model.wv.save_word2vec_format(work["output"], binary=True)
    print(
        json.dumps(
            {
                "words": model.corpus_total_words * work["epochs"],
                "train_s": done - ready,
                "train_cpu_s": time.process_time() - busy,
                "prepare_s": ready - begin,
                "vocabulary": len(model.wv),
            }
        )
    )


if __name__ == "__main__":
    main()
