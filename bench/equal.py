#!/usr/bin/env python3
"""equal.py PEER_OUT OUR_OUT: the same rows, the same features of every customer, the same KPI totals."""
import sys
import duckdb

peer, ours = sys.argv[1:3]
con = duckdb.connect()
con.execute("SET threads=2")
one = lambda q: con.execute(q).fetchone()
lake = lambda t: f"read_parquet('{ours}/lake/{t}/**/*.parquet', hive_partitioning=false)"
import glob, os
def of(name):
    # DuckDB's job leaves all order lines in one folder, by what became of them.
    if name.endswith("_transactions") and os.path.isdir(f"{peer}/tx"):
        kept = "=" if name.startswith("clean") else "<>"
        return f"(SELECT * FROM read_parquet('{peer}/tx/*/*.parquet', hive_partitioning=true) WHERE reason {kept} 'clean')"
    return f"read_parquet('{peer}/{name}.parquet')" if os.path.isfile(f"{peer}/{name}.parquet") else f"read_parquet('{peer}/{name}/**/*.parquet', hive_partitioning=false)"

bad = 0
def check(what, a, b, near=0.0):
    global bad
    ok = a == b or (near and abs(a - b) <= near * max(1, abs(a)))
    bad += not ok
    print(f"  {what:32} {a} / {b} {'equal' if ok else 'DIFFERENT'}")

led = dict(con.execute(f"SELECT source || '.' || rule, rows_quarantined + rows_merged + rows_superseded FROM {lake('ledger')}").fetchall())
clean = dict(con.execute(f"SELECT source, rows_clean FROM {lake('ledger')} WHERE step = 0").fetchall())
later = dict(con.execute(f"SELECT source, rows_after_as_of FROM {lake('ledger')} WHERE step = 0").fetchall())
quarantine = dict(con.execute(f"SELECT reason, count(*) FROM {of('quarantine_transactions')} GROUP BY 1").fetchall())
# The peers keep the future in their clean tables; a night sets it aside, unless the project says otherwise.
check("clean customers", one(f"SELECT count(*) FROM {of('clean_customers')}")[0], clean["customers"])
check("clean transactions", one(f"SELECT count(*) FROM {of('clean_transactions')}")[0], clean["transactions"])
for theirs, our in (("null_customer", "missing_customer"), ("bad_price", "bad_price"), ("orphan_customer", "orphan_customer")):
    check(our, quarantine.get(theirs, 0), led[f"transactions.{our}"])
check("malformed_country", one(f"SELECT count(*) FROM {of('quarantine_customers')}")[0], led["customers.malformed_country"])

NAMES = {"aov": "average_order_value", "ip_mean_days": "interpurchase_mean_days", "ip_std_days": "interpurchase_std_days", "n_categories": "categories"}
COLUMNS = ["recency_days", "frequency", "monetary", "aov", "ip_mean_days", "ip_std_days", "tenure_days", "n_categories", "top_category_share",
           "return_rate", "discount_share", "weekend_share", "online_share", "spend_trend", "gross_spend", "spend_last90", "spend_prior90",
           "orders_last90", "orders_prior90"]
joined = f"{of('features')} AS a FULL JOIN (SELECT f.*, i.customer_id FROM {lake('features')} AS f JOIN {lake('identity')} AS i USING (customer_key)) AS b USING (customer_id)"
worst = one("SELECT count(a.frequency), count(b.frequency), " + ", ".join(
    f"max(abs(a.{c} - b.{NAMES.get(c, c)}::DOUBLE) / greatest(1, abs(a.{c})))" for c in COLUMNS) + f" FROM {joined}")
check("customers with features", worst[0], worst[1])
for c, d in zip(COLUMNS, worst[2:]):
    if d > (1e-5 if c == "ip_std_days" else 1e-7):
        bad += 1
        print(f"  {c}: DIFFERENT by {d}")
print(f"  features: largest relative difference {max(worst[2:]):.1e}")
totals = one(f"SELECT sum(revenue), sum(revenue_last90), sum(revenue_prior90), sum(customers) FROM {of('kpis')}")
kpi = dict(con.execute(f"SELECT kpi, numerator::DOUBLE FROM {lake('kpis')} WHERE segment_id IS NULL").fetchall())
for name, value in zip(("revenue", "revenue_last90", "revenue_prior90", "customers"), totals):
    check(f"KPI {name}", float(value), kpi[name], 1e-9)
sys.exit(bad > 0)
