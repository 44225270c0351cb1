"""DuckDB, Polars and deltalake over the demo's lake, held against the program's own answers."""

import csv
import glob
import io
import os
import subprocess
import sys

import deltalake
import duckdb
import duckdb_extension_delta
import polars as pl

folder, tessera = sys.argv[1:3]
lake = f"{folder}/lake"


def ours(query, folder=folder):
    run = subprocess.run([tessera, "sql", query, "--format", "csv", "--restricted", "--project", f"{folder}/tessera.toml"],
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
buckets = glob.glob(f"{folder}/large/lake/clean_transactions/as_of=*/bucket-*")
assert len(buckets) > 1, buckets
amount = pl.scan_delta(f"{folder}/large/lake/clean_transactions").select(pl.col("amount").sum()).collect().item()
assert float(amount) == float(ours("SELECT sum(amount) FROM clean_transactions", f"{folder}/large")[0][0])
lake = f"{folder}/lake"

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
