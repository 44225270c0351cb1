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
    return {
        "clean files": len(known),
        "clean KB": sum(p.stat().st_size for p in known) // 1000,
        "kept files": len([p for p in data if "_tessera" in p.parts]),
        "log KB": sum(p.stat().st_size for p in files if "_delta_log" in p.parts) // 1000,
        "all KB": sum(p.stat().st_size for p in files) // 1000,
    }


def active(as_of):
    shown = json.loads(run("snapshots", "show", "--as-of", as_of, "--json"))["tables"]
    clean = [t for name, t in shown.items() if name.startswith("clean_")]
    return {"active clean files": sum(t["files"] for t in clean), "active clean KB": sum(t["bytes"] for t in clean) // 1000}


rows = []
for number, day in enumerate(days, 1):
    write(lines.filter(pl.col("day") == day), day)
    as_of = str(pl.Series([day]).str.to_date().dt.offset_by("1d")[0])
    began = time.perf_counter()
    run("run", "--as-of", as_of)
    seconds = time.perf_counter() - began
    if number in (1, 2, 10, 30, nights):
        rows.append({"night": number, "seconds": round(seconds, 2), **active(as_of), **measure("lake")})
removed = run("vacuum", "--older-than", "0").strip()
rows.append({"night": "after vacuum", "seconds": "", **active(as_of), **measure("lake")})
run("run", "--as-of", as_of, "--lake", "whole")
rows.append({"night": "one full copy", "seconds": "", **measure("whole")})
header = list(rows[0])
print("| " + " | ".join(header) + " |\n|" + "--:|" * len(header))
for row in rows:
    print("| " + " | ".join(str(row.get(h, "")) for h in header) + " |")
print(removed)
print(run("snapshots", "verify").strip())
