"""How an inference slows down with the distance between the servers: one client for each round-trip time, as a table.

python examples/latency_curve.py --rtt 0 10 40 --plot curve.png
"""

import argparse
import statistics

import mpcnet

REVIEW = "A warm, funny and beautifully acted film."


def measure(model: str, rtt_ms: float, runs: int) -> tuple[int, float]:
    """Rounds of a request, and its median seconds online; a first request warms up."""
    with mpcnet.local(model, net=f"rtt={rtt_ms:g}ms" if rtt_ms else "none") as private:
        times = []
        for _ in range(runs + 1):
            private.classify([REVIEW])
            times.append(private.last.seconds_online)
        return private.last.rounds, statistics.median(times[1:])


def plot(path: str, rtts: list[float], seconds: list[float]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rtts, seconds, marker="o")
    axes.set(xlabel="round-trip time, ms", ylabel="seconds online", ylim=(0, None))
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sentiment", help="a classifier: a built-in name, a directory or a hub name")
    parser.add_argument("--rtt", type=float, nargs="+", default=[0, 10], help="round-trip times, in ms")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--plot", metavar="FILE", help="also draw the curve (needs matplotlib)")
    chosen = parser.parse_args()
    rows = [measure(chosen.model, rtt, chosen.runs) for rtt in chosen.rtt]
    print(f"{'RTT ms':>7} {'rounds':>7} {'online s':>9} {'rounds x RTT / 2':>17}")
    for rtt, (rounds, online_s) in zip(chosen.rtt, rows, strict=True):
        print(f"{rtt:>7g} {rounds:>7} {online_s:>9.2f} {rounds * rtt / 2000:>17.2f}")
    if chosen.plot:
        plot(chosen.plot, chosen.rtt, [online_s for _, online_s in rows])


if __name__ == "__main__":
    main()
