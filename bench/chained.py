"""chained.py DAYS RUNS: nights over the folders that days.py made; see chained.sh."""

import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

days, runs = pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2])
tessera = os.environ["TESSERA_BIN"]
place = pathlib.Path("chained").resolve()
FIRST, NEXT = "2025-12-31", "2026-01-01"
STAGES = ["ingest", "reconcile", "quality", "features", "value", "segment", "validate", "kpis", "causes", "publish"]
CORE = ["ingest", "reconcile", "features"]


def sources(history, day, customers):
    """Links the files, so that their names are those of every night."""
    for folder in ("transactions", "customers"):
        shutil.rmtree(place / folder, ignore_errors=True)
        (place / folder).mkdir(parents=True)
    for file in sorted((days / history).glob("*.parquet")) + (sorted((days / "day").glob("*.parquet")) if day else []):
        os.link(file, place / "transactions" / file.name)
    os.link(days / customers / "customers.parquet", place / "customers/customers.parquet")


def size(lake):
    return {p: p.stat().st_size for p in lake.rglob("*.parquet")}


def night(lake, as_of, *further):
    before = size(place / lake) if (place / lake).exists() else {}
    began = time.perf_counter()
    command = [tessera, "run", "--as-of", as_of, "--lake", lake, "--log", "json", *further]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    total = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stderr)
    seconds = {}
    for line in done.stderr.splitlines():
        entry = json.loads(line)
        if "seconds" in entry:
            seconds[entry["stage"]] = entry["seconds"]
    after = size(place / lake)
    tables, state = 0, 0
    for path, count in after.items():
        if path not in before:
            if "_tessera" in path.parts:
                state += count
            else:
                tables += count
    return {"total": total, "tables": tables / 1e6, "state": state / 1e6, **{s: seconds.get(s, 0.0) for s in STAGES}}


def fingerprints(lake):
    shown = subprocess.run([tessera, "snapshots", "show", "--as-of", NEXT, "--json", "--lake", lake], cwd=place, check=True,
                           capture_output=True, text=True)
    return {name: t["fingerprint"] for name, t in json.loads(shown.stdout)["tables"].items()}


place.mkdir(exist_ok=True)
shutil.copy("chained.toml", place / "tessera.toml")
results = {}


def one_day_more(history, name, customers, *further):
    shutil.rmtree(place / "next", ignore_errors=True)
    shutil.copytree(place / f"lake-{history}", place / "next", copy_function=os.link)
    sources(history, True, customers)
    results.setdefault(f"{history}: {name}", []).append(night("next", NEXT, *further))
    return fingerprints("next")


for run in range(runs):
    for history in ("long", "short"):
        lake = f"lake-{history}"
        shutil.rmtree(place / lake, ignore_errors=True)
        sources(history, False, "dump")
        results.setdefault(f"{history}: first night", []).append(night(lake, FIRST))
    # By turns: a machine's mood lasts longer than a night.
    for turn in range(3):
        for history in ("long", "short"):
            chained = one_day_more(history, "one day more", "dump")
    one_day_more("long", "one day more, customers changed", "dump-changed")
    chained, full = one_day_more("long", "one day more", "dump"), one_day_more("long", "the same in full", "dump", "--full")
    assert full == chained, {n for n in full if full[n] != chained[n]}

middle = {name: {key: statistics.median(r[key] for r in rows) for key in rows[0]} for name, rows in results.items()}
full = middle["long: the same in full"]
print(f"| night | {' | '.join(STAGES)} | whole | ingest + reconcile + features: ratio | whole: ratio | tables MB | kept MB |")
print("|---" + "|--:" * (len(STAGES) + 5) + "|")
for name, row in middle.items():
    core = sum(row[s] for s in CORE) / sum(full[s] for s in CORE)
    stages = " | ".join(f"{row[s]:.2f}" for s in STAGES)
    print(f"| {name} | {stages} | {row['total']:.1f} | **{core:.3f}** | {row['total'] / full['total']:.3f} | {row['tables']:.0f} | {row['state']:.0f} |")
twice = sum(middle["long: one day more"][s] for s in CORE) / sum(middle["short: one day more"][s] for s in CORE)
print(f"\nTwice the history at the same customers: {twice:.2f} times as long. Every fingerprint of the chained night is that of the full one.")
