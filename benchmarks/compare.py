"""Ours beside what people use today, in the same call and in turns: prints ratios, and keeps them as data.

python benchmarks/compare.py [--set cpu] [--rows 'train-*,bandit-*'] [--turns 5] [--json FILE] [--minutes 60]
                             [--here torch] [--cores 1] [--slack 3] [--smoke] [--list]

A row is two processes, ours and a peer's, which compute one after the other, again and again; its ratio is the median
over the turns of our rate over the peer's, above 1 if we are faster. Peers live in environments of their own, made on
the first call from the pinned packages in ``peers/*.txt`` (``interpreters.py``); with ``--here torch`` those of
``torch.txt`` run by this interpreter, with the versions that it has. A peer that cannot be installed or run is a row
that says why.

Both ratios of a row are kept: of the clock, and of the CPU seconds of all threads. On a machine that others use, only
the second says something, and only with ``--cores 1``: threads that wait for each other on a busy core count as work.

The file (by default ``results/DATE-DEVICE-NUMBER.json``, none for a smoke run) is written anew after each row.
"""

import argparse
import datetime
import fnmatch
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from interpreters import NotInstalled, interpreter
from rows import PEERS, SETS, Row
from sides import Failed, in_turns

from icrl.storage.publish import publish_json
from icrl.storage.run_folder import versions

SCHEMA = 1
RESULTS = Path(__file__).parent / "results"
RATES = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bfloat16, a second, of the maker's data sheets (SXM)


def main() -> int:
    args = parsed()
    keep_to(args.cores)
    rows = [row for row in SETS[args.set] if any(fnmatch.fnmatch(row.name, each) for each in args.rows.split(","))]
    if args.list or not rows:
        print(
            "\n".join(f"{row.name:<24} {row.what}; {PEERS[row.peer][1] if row.peer else '-'}" for row in SETS[args.set])
        )
        if not args.list:
            print(f"rows: got {args.rows!r}, allowed: patterns of these names", file=sys.stderr)
        return 0 if args.list else 2
    document = {
        "schema": SCHEMA,
        "set": args.set,
        "device": described(),
        "processor": processor(),
        "date": datetime.date.today().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": versions(),
        "rows": [],
    }
    peak = peak_of(document["device"])
    path, until = args.json or new_file(document), time.monotonic() + 60 * args.minutes
    for row in rows:
        left = until - time.monotonic()
        document["rows"].append(measured(row, args, peak, left) if left > 0 else unmeasured(row, "no time left"))
        print(told(document["rows"][-1]), flush=True)
        if args.json or not args.smoke:
            publish_json(path, document)
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", choices=SETS, default="cpu", help="of rows")
    parser.add_argument("--rows", default="*", help="patterns of names, commas between them")
    parser.add_argument("--turns", type=int, default=5, help="of each side")
    parser.add_argument("--minutes", type=float, default=120.0, help="behind which no row begins, and a row ends")
    parser.add_argument("--here", default="", help="packages of peers that this interpreter has, as torch,popgym")
    parser.add_argument("--cores", type=int, default=None, help="that both sides are kept to; all by default")
    parser.add_argument("--slack", type=float, default=1.0, help="limits are so many times as long")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, which say nothing about speed")
    parser.add_argument("--json", type=Path, default=None, help="the file of the results")
    parser.add_argument("--list", action="store_true", help="the rows of the set")
    return parser.parse_args()


def keep_to(cores: int | None) -> None:
    """This process and all that it starts, and the threads of OpenMP."""
    if cores is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
        os.environ["OMP_NUM_THREADS"] = str(cores)


def described() -> str:
    """The device, with the cores of a CPU for their number: jax has one device of it.

    Another process looks: one that has seen a GPU holds most of its memory.
    """
    look = "from icrl.core.devices import device_name; print(device_name())"
    name = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True).stdout.strip()
    return f"{os.cpu_count()} x cpu" if name == "1 x cpu" else name


def processor() -> str:
    """The model of the host's processor, which decides what libraries tuned by hand are worth; "" if nobody says."""
    told = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", told.read_text() if told.exists() else "", re.MULTILINE)
    return found[1].strip() if found else ""


def new_file(document: dict[str, Any]) -> Path:
    """One of the day that is not there yet; in the order of names they are in that of time."""
    name = "-".join([document["date"], *re.findall(r"\w+", document["device"].lower())])
    paths = [RESULTS / f"{name}-{count:02}.json" for count in range(1, 100)]
    return next(path for path in paths if not path.exists())


def measured(row: Row, args: argparse.Namespace, peak: float | None, left: float) -> dict[str, Any]:
    """The row's results, or why there are none."""
    load, limit = os.getloadavg()[0], min(args.slack * row.limit, left)
    tells = {"ours": {**row.settings, **row.ours}, "peer": {**row.settings, **row.theirs}}
    if args.smoke:
        tells = {side: {key: row.small.get(key, each[key]) for key in each} for side, each in tells.items()}
    try:
        ours, peer = (sys.executable, "ours.py", row.side), None
        if row.peer == "ours":
            peer = ours
        elif row.peer:
            packages = PEERS[row.peer][0]
            python = sys.executable if packages in args.here.split(",") else interpreter(packages)
            peer = (python, f"peers/{row.peer}.py")
        sides = in_turns(ours, peer, tells, args.turns, limit)
    except (Failed, NotInstalled) as error:
        return unmeasured(row, str(error))
    for side in sides:
        taken = statistics.median(turn["seconds"] for turn in side["turns"])
        side |= {"per_second": side["amount"] / taken, "compile_seconds": max(side["first_seconds"] - taken, 0.0)}
    result = {**head(row), "load": round(load, 2), "more": more(sides, peak), "ours": sides[0]}
    if len(sides) == 2:
        result |= {"peer": sides[1], "ratio": ratio(*sides, "seconds"), "cpu_ratio": ratio(*sides, "cpu_seconds")}
    return result


def head(row: Row) -> dict[str, Any]:
    beside = PEERS[row.peer][1] if row.peer else ""
    return {"name": row.name, "what": row.what, "beside": beside, "note": row.note}


def unmeasured(row: Row, why: str) -> dict[str, Any]:
    plain = re.sub(r"/(?:[^\s/:'\"]+/)+", "", why)  # what is kept names no folder of this machine
    return {**head(row), "failed": " ".join(plain.split())[:300]}


def ratio(ours: dict[str, Any], peer: dict[str, Any], what: str) -> float:
    """Median over the turns of our rate over theirs."""
    pairs = zip(ours["turns"], peer["turns"], strict=True)
    found = statistics.median(theirs[what] / max(own[what], 1e-9) for own, theirs in pairs)
    return found * ours["amount"] / peer["amount"]


def peak_of(device: str) -> float | None:
    """Floating-point operations a second of the device, if it is known."""
    return next((rate for name, rate in RATES.items() if name in device), None)


def more(sides: list[dict[str, Any]], peak: float | None) -> str:
    """What else a row says: shares of the device's peak, or how long all steps of a paper take."""
    ours, words = sides[0], []
    if "flops" in ours and peak:
        rates = [ours["flops"] / ours["amount"] * side["per_second"] for side in sides]
        done, share = (
            " and ".join(each) for each in zip(*((f"{r / 1e12:.0f}", f"{r / peak:.1%}") for r in rates), strict=True)
        )
        words.append(f"{done} TFLOP/s, {share} of peak")
    if "train_steps" in ours and len(sides) == 1:
        minutes = ours["train_steps"] * ours["amount"] / ours["per_second"] / 60
        words.append(f"{ours['train_steps']:,} steps of a model in {minutes:,.0f} minutes")
    return "; ".join(words)


def told(result: dict[str, Any]) -> str:
    """A line for a reader."""
    name = f"{result['name']:<24}"
    if "failed" in result:
        return f"{name} {result['failed']}"
    words = [f"{name} {result['ours']['per_second']:12,.4g} {result['ours']['unit']}/s"]
    if "ratio" in result:
        words.append(f"{result['beside']} {result['peer']['per_second']:,.4g}")
        words.append(f"ratio {result['ratio']:,.3g} (of CPU time {result['cpu_ratio']:,.3g})")
    return ", ".join([*words, *filter(None, [result["more"]])])


if __name__ == "__main__":
    sys.exit(main())
