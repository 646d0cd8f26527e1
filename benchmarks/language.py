"""Speed of training a language model beside other tools, in one interleaved run on identical work.

    python benchmarks/language.py [--rounds 7] [--quick] [--only PATTERN,…]

The work is that of Zaremba, Sutskever, Vinyals (2014), arXiv:1409.2329, with 35 steps: two LSTM layers of 200 units over 10,000
words, 20 streams, gradients clipped, the state carried on. A sample is a token. How contenders are run and compared is
that of benchmarks/run.py. Writes benchmarks/results/language.json.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys

from run import HERE, PLAIN, Entry, describe_machine, install, measure, print_table
from work import lstm_lm


def keras(backend: str, *, precision: str, jit: bool) -> Entry:
    words = [f"Keras/{'TF' if backend == 'tensorflow' else 'JAX'}", precision, *(["jit"] if jit else [])]
    changes = {"precision": precision, "jit": jit, "steps_per_execution": 20}
    if precision == "bf16":
        changes["head"] = "mixed_bfloat16"  # the logits too, three quarters of the work; weights stay in float32
    variables = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return Entry(" ".join(words), "lm_keras.py", f"keras-{backend}", variables, changes)


ENTRIES = (
    Entry(PLAIN, "lm_plain_torch.py"),
    Entry(f"{PLAIN}, 1 thread", "lm_plain_torch.py", variables={"OMP_NUM_THREADS": "1"}),
    Entry("Lamina", "lm_lamina.py"),
    Entry("Lamina, fp32", "lm_lamina.py", changes={"training": {"precision": "fp32"}}),
    keras("tensorflow", precision="fp32", jit=False),
    keras("tensorflow", precision="fp32", jit=True),
    keras("tensorflow", precision="bf16", jit=False),
    keras("jax", precision="fp32", jit=True),
    keras("jax", precision="bf16", jit=True),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="three rounds, to see that everything runs")
    parser.add_argument(
        "--only", default="", help="contenders whose name one of these patterns matches, comma-separated"
    )
    arguments = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    install()
    rounds = 3 if arguments.quick else arguments.rounds
    only = [word.strip() for word in arguments.only.split(",") if word.strip()]
    entries = [e for e in ENTRIES if not only or e.name == PLAIN or any(re.fullmatch(word, e.name) for word in only)]
    peaks = json.loads(
        subprocess.run([sys.executable, str(HERE / "peak.py")], capture_output=True, text=True, check=True).stdout
    )
    result = measure(lstm_lm(batches=20 if arguments.quick else 40), entries, rounds=rounds, peaks=peaks)
    print_table(result)
    machine = describe_machine() | {"peak_gflops": peaks}
    report = {"benchmark": "language", "machine": machine, "rounds": rounds, "works": [result]}
    target = HERE / "results" / f"language{'-quick' if arguments.quick else ''}.json"
    target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {target.relative_to(HERE.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
