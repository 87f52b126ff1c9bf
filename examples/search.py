"""Private semantic search: embed texts without showing them to any server, then find the nearest to a query.

python examples/search.py "Where can I get a haircut?"
"""

import argparse

import numpy as np

import mpcnet

CORPUS = [
    "The barber on Mill Street opens at nine.",
    "Bring the bicycle in for repair before noon.",
    "Fresh bread is sold out by eight most mornings.",
    "The library lends board games for two weeks.",
    "A dentist answers the emergency line at night.",
]


def top(vectors: np.ndarray, query: np.ndarray, count: int) -> list[tuple[int, float]]:
    """The rows nearest to `query` by cosine; float32 [n, dim] fits an index such as FAISS as it is."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = units @ (query / np.linalg.norm(query))
    return [(int(row), float(scores[row])) for row in np.argsort(-scores)[:count]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("query", nargs="?", default="Where can I get a haircut?")
    parser.add_argument("--model", default="demo", help="a built-in name, a directory or a hub name")
    parser.add_argument("--connect", metavar="PARTY_TOML", help="ask this deployment instead of a local one")
    parser.add_argument("--top", type=int, default=3)
    chosen = parser.parse_args()
    client = mpcnet.connect(chosen.connect) if chosen.connect else mpcnet.local(chosen.model)
    with client as private:
        *vectors, query = private.embed([*CORPUS, chosen.query])
        cost = private.last
    for row, score in top(np.stack(vectors), query, chosen.top):
        print(f"{score:.3f}  {CORPUS[row]}")
    print(f"{cost.rounds} rounds, {cost.sent_bytes / 1e6:.1f} MB each way, {cost.seconds:.1f} s")


if __name__ == "__main__":
    main()
