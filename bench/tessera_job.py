#!/usr/bin/env python3
"""Runs a night as one of the peers' jobs: the same arguments, and one JSON line with seconds, memory and figures."""
import argparse, glob, json, os, resource, shutil, subprocess, time

p = argparse.ArgumentParser()
p.add_argument("--data", required=True)
p.add_argument("--out", required=True)
p.add_argument("--input", choices=["parquet", "csv"], default="parquet")
a = p.parse_args()
shutil.rmtree(a.out, ignore_errors=True)
os.makedirs(a.out)
data, out = os.path.abspath(a.data), os.path.abspath(a.out)
binary = os.environ["TESSERA_BIN"]
project = ["--project", os.environ["TESSERA_BENCH_PROJECT"], "--lake", f"{out}/lake"]
folder = "transactions_csv" if a.input == "csv" else "transactions"
os.environ.setdefault("TESSERA_SECRET", "the benchmark keeps no secrets")

start = time.time()
command = [binary, "run", "--as-of", "2026-01-01", "--log", "json", *project, "--set", "engine.partitions=2",
           "--set", f"sources.customers.url={data}/customers/", "--set", f"sources.transactions.url={data}/{folder}/"]
with open(f"{out}/log", "w") as log:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=log)
total = time.time() - start
# Of the largest child: the night is one process.
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024

stages = {}
for line in open(f"{out}/log"):
    event = json.loads(line)
    if "seconds" in event and "stage" in event:
        stages[event["stage"]] = round(event["seconds"], 2)
query = "SELECT metric, value FROM validation WHERE segment_id IS NULL"
rows = subprocess.run([binary, "sql", query, "--format", "csv", *project], check=True, capture_output=True, text=True).stdout
quality = {m: float(v) for m, v in (line.split(",") for line in rows.splitlines()[1:]) if v}
size = sum(os.path.getsize(f) for f in glob.glob(f"{out}/lake/**/*", recursive=True) if os.path.isfile(f))
print(json.dumps({"peer": "tessera", "total_s": round(total, 2), "stages": stages, "peak_rss_mb": round(peak, 1), "quality": quality,
                  "lake_mb": round(size / 2**20, 1)}))
