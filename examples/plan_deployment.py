"""Before any machine is rented: what an inference costs by length, and how long it takes over a given link.

python examples/plan_deployment.py --model bert-base --rtt 20 --mbps 1000
"""

import argparse

import mpcnet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bert-tiny", help="a built-in name, a directory or a hub name")
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--rtt", type=float, default=20.0, help="round trip between the servers, in ms")
    parser.add_argument("--mbps", type=float, default=1000.0, help="bandwidth between any two parties, in Mbit/s")
    chosen = parser.parse_args()
    print(f"{chosen.model} over {chosen.rtt:g} ms and {chosen.mbps:g} Mbit/s; seconds without compute")
    names = ["tokens", "rounds", "online MB", "dealt MB", "server GB", "offline s", "online s"]
    print("".join(f"{name:>11}" for name in names))
    for length in chosen.lengths:
        cost = mpcnet.plan(chosen.model, length=length)
        offline_s = max(cost.dealt_bytes) * 8 / (chosen.mbps * 1e6)
        online_s = cost.rounds * chosen.rtt / 2000 + cost.sent_bytes * 8 / (chosen.mbps * 1e6)
        sizes = cost.sent_bytes / 1e6, max(cost.dealt_bytes) / 1e6, cost.peak_bytes / 1e9
        print(f"{length:>11}{cost.rounds:>11}" + "".join(f"{value:>11.2f}" for value in (*sizes, offline_s, online_s)))
    dearest = sorted(cost.operations, key=lambda operation: -operation.sent_bytes)[:3]
    print("most bytes online:", ", ".join(f"{each.name} {each.sent_bytes / 1e6:.1f} MB" for each in dearest))


if __name__ == "__main__":
    main()
