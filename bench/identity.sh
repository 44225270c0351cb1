#!/usr/bin/env bash
# Persons among N accounts, a twentieth of which are somebody's again, by Tessera and by Splink on DuckDB, on the same file in the same run; then a
# night with 1,000 new accounts. With FEBRL=folder also febrl's dataset1.csv to dataset3.csv.
#   FEBRL=folder bash bench/identity.sh [N]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
n=${1:-1000000}
work=${BENCH_DIR:-$HOME/.cache/tessera-bench}/identity
mkdir -p "$work"
if [ ! -x "$work/venv/bin/python" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install -q splink==5.0.0 duckdb==2.0.1 polars==2.1.0 numpy==2.4.6
fi
python=$work/venv/bin/python
binary=${TESSERA_BIN:-$(realpath "${CARGO_TARGET_DIR:-$here/../target}/release/tessera")}
export TESSERA_SECRET=${TESSERA_SECRET:-a benchmark keeps no secrets}

# project FOLDER CUSTOMERS FURTHER-COLUMNS
project() {
  mkdir -p "$1"
  printf '[project]\nname = "identity"\n[identity]\ncountry = "DE"\n[segmentation]\npopulation = "customers"\nfeatures = ["age_years"]\nobjectives.value = "age_years"\n[sources.customers]\nurl = "%s"\n%s' "$2" "$3" > "$1/tessera.toml"
  rm -rf "$1/lake"
}

# run FOLDER NIGHT: the stage identity of a night by itself, with its seconds and the peak of its memory.
run() {
  (cd "$1"
   for stage in ingest reconcile quality; do "$binary" stage "$stage" --as-of "$2" > stage.log 2>&1; done
   /usr/bin/time -f '%e %M' -o time.txt "$binary" stage identity --as-of "$2" > stage.log 2>&1
   for stage in features segment validate kpis publish; do "$binary" stage "$stage" --as-of "$2" > stage.log 2>&1; done)
}

# line NAME FOLDER TRUTH
line() {
  local f
  f=$(cd "$2" && "$binary" identity evaluate --truth "$3" --format csv | tail -1)
  read -r seconds kb < "$2/time.txt"
  printf '| %s | %s | %s | %s | %s | %s |\n' "$1" "$seconds" $((kb / 1024)) "$(cut -d, -f7 <<< "$f" | cut -c1-6)" "$(cut -d, -f8 <<< "$f" | cut -c1-6)" "$(cut -d, -f9 <<< "$f" | cut -c1-6)"
}

splink() {
  "$python" "$here/identity_splink.py" "$2" "$3" | "$python" -c "
import json, sys
r = json.loads(sys.stdin.readlines()[-1])
print(f\"| Splink: $1 | {r['seconds']} | {r['mb']} | {r['precision']} | {r['recall']} | {r['f1']} |\")"
}

echo '| | seconds | MB | precision | recall | F1 |'
echo '|---|--:|--:|--:|--:|--:|'
if [ -n "${FEBRL:-}" ]; then
  for i in 1 2 3; do
    folder=$work/febrl$i
    mkdir -p "$folder"
    "$python" - "$FEBRL/dataset$i.csv" "$folder" <<'PYTHON'
import csv, sys
rows = [{k.strip(): v.strip() for k, v in r.items()} for r in csv.DictReader(open(sys.argv[1]), skipinitialspace=True)]
truth = csv.writer(open(f"{sys.argv[2]}/truth.csv", "w"))
truth.writerow(["customer_id", "person"])
people = csv.writer(open(f"{sys.argv[2]}/people.csv", "w"))
people.writerow("customer_id first_name last_name birth_date city postal_code address".split())
for r in rows:
    truth.writerow([r["rec_id"], r["rec_id"].split("-")[1]])
    b = r["date_of_birth"]
    people.writerow([r["rec_id"], r["given_name"], r["surname"], f"{b[:4]}-{b[4:6]}-{b[6:]}" if len(b) == 8 else "", r["suburb"], r["postcode"], r["street_number"] + " " + r["address_1"]])
PYTHON
    project "$folder" "$folder/people.csv" ''
    run "$folder" 2026-01-01
    line "febrl $i" "$folder" truth.csv
    splink "febrl $i" "$folder/people.csv" "$folder/truth.csv"
  done
fi
[ -f "$work/$n/truth.csv" ] || "$python" "$here/identity_accounts.py" "$n" "$work/$n"
rm -f "$work/$n"/customers/more.parquet
project "$work/$n" customers/ ''
run "$work/$n" 2026-01-01
line "$n accounts" "$work/$n" truth.csv
splink "$n accounts" "$work/$n/customers" "$work/$n/truth.csv"
"$python" - "$work/$n" <<'PYTHON'
import sys
import polars as pl
old = pl.read_parquet(f"{sys.argv[1]}/customers/part-0.parquet")
some = old.sample(1000, seed=1).with_columns(customer_id="N" + pl.col("customer_id"), email=pl.lit(None, pl.String))
some.write_parquet(f"{sys.argv[1]}/customers/more.parquet")
PYTHON
run "$work/$n" 2026-01-02
line "a night with 1,000 more" "$work/$n" truth.csv
