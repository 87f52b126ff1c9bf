"""Private classification: each text's label and probabilities, and an error in the place of a text that has no answer.

python examples/classify.py "A warm, funny film."
"""

import argparse

import mpcnet

REVIEWS = ["A warm, funny and beautifully acted film.", "", "Two hours of my life that I will never get back."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", default=REVIEWS)
    parser.add_argument("--model", default="sentiment", help="a classifier: a built-in name, a directory or a hub name")
    parser.add_argument("--connect", metavar="PARTY_TOML", help="ask this deployment instead of a local one")
    chosen = parser.parse_args()
    client = mpcnet.connect(chosen.connect, attempts=3) if chosen.connect else mpcnet.local(chosen.model)
    with client as private:
        found = private.classify(chosen.texts, on_error="return")
    for text, entry in zip(chosen.texts, found, strict=True):
        if isinstance(entry, mpcnet.Classification):
            scores = ", ".join(f"{name} {score:.2f}" for name, score in entry.scores.items())
            print(f"{entry.label:<10} {scores:<32} {text}")
        else:
            print(f"{'error':<10} {entry}")


if __name__ == "__main__":
    main()
