"""DuckDB, Polars and deltalake over the demo's lake, held against the program's own answers."""

import csv
import glob
import io
import json
import os
import subprocess
import sys

import deltalake
import duckdb
import duckdb_extension_delta
import polars as pl

folder, tessera = sys.argv[1:3]
lake = f"{folder}/lake"


def ours(query, folder=folder, further=()):
    command = [tessera, "sql", query, "--format", "csv", "--restricted", "--project", f"{folder}/tessera.toml", *further]
    run = subprocess.run(command,
                         check=True, capture_output=True, text=True)
    return list(csv.reader(io.StringIO(run.stdout)))[1:]


con = duckdb.connect()
extension = glob.glob(os.path.join(os.path.dirname(duckdb_extension_delta.__file__), "**", "*.duckdb_extension"), recursive=True)[0]
con.execute(f"LOAD '{extension}'")
checks = 0
for shop, nights in ((folder, 3), (f"{folder}/large", 1)):
    lake = f"{shop}/lake"
    for table in sorted(t for t in os.listdir(lake) if not t.startswith("_")):
        expect = int(ours(f"SELECT count(*) FROM {table}", shop)[0][0]) if table != "snapshots" else nights
        counts = {
            "duckdb": con.execute(f"SELECT count(*) FROM delta_scan('{lake}/{table}')").fetchone()[0],
            "polars": pl.scan_delta(f"{lake}/{table}").select(pl.len()).collect().item(),
            "deltalake": deltalake.DeltaTable(f"{lake}/{table}").to_pyarrow_table().num_rows,
        }
        assert all(n == expect for n in counts.values()), (table, expect, counts)
        checks += len(counts)
buckets = glob.glob(f"{folder}/large/lake/clean_transactions/bucket-*")
assert len(buckets) > 1, buckets
amount = pl.scan_delta(f"{folder}/large/lake/clean_transactions").select(pl.col("amount").sum()).collect().item()
assert float(amount) == float(ours("SELECT sum(amount) FROM clean_transactions", f"{folder}/large")[0][0])
lake = f"{folder}/lake"

# What is known grows; an older night is a version of the table.
grown = []
for night in ("2025-11-01", "2025-12-01", "2026-01-01"):
    shown = subprocess.run([tessera, "snapshots", "show", "--as-of", night, "--json", "--project", f"{folder}/tessera.toml"],
                           check=True, capture_output=True, text=True)
    for table in ("clean_transactions", "quarantine", "accounts", "kpis"):
        published = json.loads(shown.stdout)["tables"][table]
        rows = pl.scan_delta(f"{lake}/{table}", version=published["version"])
        if table == "kpis":
            rows = rows.filter(pl.col("as_of") == pl.lit(night).str.to_date())
        polars = rows.select(pl.len()).collect().item()
        dt = deltalake.DeltaTable(f"{lake}/{table}", version=published["version"]).to_pyarrow_table()
        ours_then = int(ours(f"SELECT count(*) FROM {table}", further=["--as-of", night])[0][0])
        assert polars == published["rows"] == ours_then, (night, table, polars, published["rows"], ours_then)
        assert table == "kpis" or dt.num_rows == polars, (night, table)
        checks += 2
        if table == "clean_transactions":
            grown.append(polars)
assert grown == sorted(set(grown)), grown

revenue = [float(r[0]) for r in ours("SELECT numerator FROM kpis WHERE kpi = 'revenue' AND segment_id IS NULL ORDER BY as_of")]
query = f"SELECT numerator FROM delta_scan('{lake}/kpis') WHERE kpi = 'revenue' AND segment_id IS NULL ORDER BY as_of"
assert [float(r[0]) for r in con.execute(query).fetchall()] == revenue
kpis = pl.scan_delta(f"{lake}/kpis").filter((pl.col("kpi") == "revenue") & pl.col("segment_id").is_null()).sort("as_of").collect()
assert [float(v) for v in kpis["numerator"]] == revenue
night = pl.scan_delta(f"{lake}/segments").filter(pl.col("as_of") == pl.date(2026, 1, 1)).collect()
assert night["customer_key"].n_unique() == len(night) > 0
described = {f.name: f.metadata for f in deltalake.DeltaTable(f"{lake}/kpis").schema().fields}
assert described["ci_low"]["comment"].startswith("Lower end"), described["ci_low"]
print(f"readers: {checks + 6} passed, 0 failed")
