"""nights.py CUSTOMERS NIGHTS: a shop night after night; see nights.sh. One file of order lines comes a day."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import polars as pl

customers, nights = int(sys.argv[1]), int(sys.argv[2])
tessera = os.environ["TESSERA_BIN"]
place = pathlib.Path("nights").resolve()
shutil.rmtree(place, ignore_errors=True)
place.mkdir()
shutil.copy(os.environ["TESSERA_DEMO_PROJECT"], place / "tessera.toml")


def run(*command):
    done = subprocess.run([tessera, *command], cwd=place, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


run("generate", "--customers", str(customers), "--out", "data")
lines = pl.read_parquet(place / "data/transactions/*.parquet")
shutil.rmtree(place / "data/transactions")
(place / "data/transactions").mkdir()
stamp = lines["order_ts"].cast(pl.String).str.slice(0, 10)
lines = lines.with_columns(day=stamp)
# The generator is dirty: some lines are dated in another century, or not at all.
days = sorted(d for d in lines["day"].unique().to_list() if d and "2024" <= d < "2026")[-nights:]
write = lambda part, name: part.drop("day").write_parquet(place / f"data/transactions/{name}.parquet")
write(lines.filter(~pl.col("day").is_in(days) | pl.col("day").is_null()), "history")


def measure(lake):
    files = [p for p in (place / lake).rglob("*") if p.is_file()]
    data = [p for p in files if p.suffix == ".parquet" and "_delta_log" not in p.parts]
    known = [p for p in data if p.relative_to(place / lake).parts[0].startswith("clean_")]
    logs = [p for p in files if "_delta_log" in p.parts]
    size = lambda paths: sum(p.stat().st_size for p in paths) // 1000
    return {
        "clean files": len(known),
        "clean KB": size(known),
        "kept files": len([p for p in data if "_tessera" in p.parts]),
        "log files": len(logs),
        "log KB": size(logs),
        "all files": len(files),
        "all KB": size(files),
    }


def active(as_of, lake):
    shown = json.loads(run("snapshots", "show", "--as-of", as_of, "--json", "--lake", lake))["tables"]
    clean = [t for name, t in shown.items() if name.startswith("clean_")]
    return {"active clean files": sum(t["files"] for t in clean), "active clean KB": sum(t["bytes"] for t in clean) // 1000}


def night(as_of, lake):
    began = time.perf_counter()
    run("run", "--as-of", as_of, "--lake", lake)
    return time.perf_counter() - began


def upkeep(lake):
    began = time.perf_counter()
    run("snapshots", "expire", "--keep", "7", "--lake", lake)
    run("vacuum", "--older-than", "0", "--lake", lake)
    return time.perf_counter() - began


rows = []
# Two lakes over the same days: one to which nothing is done, and one that keeps a week.
seconds = {"left alone": [], "a week is kept": []}
for number, day in enumerate(days, 1):
    write(lines.filter(pl.col("day") == day), day)
    as_of = str(pl.Series([day]).str.to_date().dt.offset_by("1d")[0])
    tidied = 0.0
    for lake, took in seconds.items():
        took.append(night(as_of, lake))
        if lake != "left alone":
            tidied = upkeep(lake)
    if number in (1, 2, 10, 30, nights):
        for lake, took in seconds.items():
            # One night alone says little: the mean of the last five.
            shown = {"lake": lake, "night": number, "seconds": round(sum(took[-5:]) / len(took[-5:]), 2)}
            shown["upkeep"] = "" if lake == "left alone" else round(tidied, 2)
            rows.append({**shown, **active(as_of, lake), **measure(lake)})
tidied = upkeep("left alone")
rows.append({"lake": "left alone, then a week is kept", "night": nights, "seconds": "", "upkeep": round(tidied, 2), **active(as_of, "left alone"), **measure("left alone")})
run("run", "--as-of", as_of, "--lake", "whole")
rows.append({"lake": "one full copy", "night": nights, "seconds": "", "upkeep": "", **active(as_of, "whole"), **measure("whole")})
header = list(rows[0])
print("| " + " | ".join(header) + " |\n|" + "--|" + "--:|" * (len(header) - 1))
for row in rows:
    print("| " + " | ".join(str(row.get(h, "")) for h in header) + " |")
for lake in seconds:
    print(lake, run("snapshots", "verify", "--lake", lake).strip())
