"""value.py [LAKE]: see value.sh."""

import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
tessera = os.environ["TESSERA_BIN"]
NIGHT = "2026-01-01"
ONE_NIGHT = ["--as-of", NIGHT] if len(sys.argv) > 1 else []


def asked(lake, query, cwd=None):
    shown = subprocess.run([tessera, "sql", query, *ONE_NIGHT, "--lake", str(lake), "--format", "json"], check=True,
                           capture_output=True, text=True, cwd=cwd).stdout
    rows = shown.strip()
    return json.loads(rows) if rows.startswith("[") else [json.loads(line) for line in rows.splitlines()]


def panel():
    """From the raw file to the parameters, in weeks, over the first 39 of them."""
    import lifetimes

    raw = pathlib.Path(lifetimes.__file__).parent / "datasets/CDNOW_sample.txt"
    place = pathlib.Path(tempfile.mkdtemp(prefix="cdnow-"))
    with (place / "purchases.csv").open("w") as out:
        out.write("line,customer,day,dollars\n")
        for line, text in enumerate(raw.read_text().splitlines()):
            if cells := text.split():
                out.write(f"{line},{cells[0]},{cells[2]},{cells[4]}\n")
    (place / "tessera.toml").write_text(
        """[project]
name = "cdnow"
currency = "USD"
[sources.transactions]
url = "purchases.csv"
columns = { order_id = "customer || day", line_id = "line", customer_id = "customer", ordered_at = "day", quantity = "1", unit_price = "dollars" }
# The panel counts purchases of nothing.
[quality.rules.bad_price]
enabled = false
[value]
model = "bg_nbd"
time_unit = "weeks"
horizons_days = [273]
""")
    night = subprocess.run([tessera, "run", "--as-of", "1997-10-01", "--lake", "lake"], cwd=place, capture_output=True, text=True)
    if night.returncode not in (0, 3):
        sys.exit(night.stderr)
    model = asked("lake", "SELECT parameter, value, std_error, log_likelihood, n FROM clv_model ORDER BY model, parameter", place)
    published = {"r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426, "p": 6.25, "q": 3.74, "gamma": 15.44}
    print("| CDNOW, from the raw file | published | Tessera | std. error |\n|---|--:|--:|--:|")
    for row in model:
        print(f"| {row['parameter']} | {published[row['parameter']]} | {row['value']:.4f} | {row['std_error']:.4f} |")
    print(f"| log-likelihood of BG/NBD | −9582.4 | {model[0]['log_likelihood']:.2f} | |")
    first = asked("lake", "SELECT v.expected_orders_273 AS orders, v.p_alive AS alive FROM customer_value v JOIN features f ON f.customer_key = v.customer_key "
                  "WHERE purchase_days = 3 AND purchase_span_days = 213 AND observed_days = 272 LIMIT 1", place)[0]
    print(f"| E[Y(39)] of (2, 30.43, 38.86) | 1.226 | {first['orders']:.4f} | |\n")
    shutil.rmtree(place)


def million(place):
    """A night that goes on from the lake that chained.py left, and the same customers to lifetimes' fitters."""
    place = pathlib.Path(place)
    shutil.rmtree(place / "next", ignore_errors=True)
    shutil.copytree(place / "lake-long", place / "next", copy_function=os.link)
    command = [tessera, "run", "--as-of", NIGHT, "--lake", "next", "--log", "json"]
    night = subprocess.run(command, cwd=place, capture_output=True, text=True)
    if night.returncode:
        sys.exit(night.stderr)
    ours = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    seconds = {e["stage"]: e["seconds"] for e in map(json.loads, night.stderr.splitlines()) if "seconds" in e}
    lake = str(place / "next")
    rows = pathlib.Path(tempfile.mkdtemp(prefix="value-")) / "features.parquet"
    query = ("SELECT purchase_days - 1 AS x, purchase_span_days / 7.0 AS t_x, observed_days / 7.0 AS t, "
             "CAST(repeat_value AS DOUBLE) AS m FROM features WHERE purchase_days > 0")
    with rows.open("wb") as out:
        subprocess.run([tessera, "sql", query, *ONE_NIGHT, "--lake", lake, "--format", "parquet"], check=True, stdout=out)
    script = f"""
import resource, time, warnings, pandas
warnings.filterwarnings("ignore")
from lifetimes import BetaGeoFitter, GammaGammaFitter
d = pandas.read_parquet({str(rows)!r})
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.perf_counter()
b = BetaGeoFitter().fit(d.x, d.t_x, d.t)
r = d[(d.x > 0) & (d.m > 0)]
g = GammaGammaFitter().fit(r.x, r.m)
seconds = time.perf_counter() - began
began = time.perf_counter()
for days in (30, 90, 365):
    b.conditional_expected_number_of_purchases_up_to_time(days / 7, d.x, d.t_x, d.t)
g.customer_lifetime_value(b, d.x, d.t_x, d.t, d.m.fillna(0), time=12, freq="W", discount_rate=0.00797)
print(len(d), seconds, time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024, *b.params_, *g.params_)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    customers, fitted, scored, memory = int(done[0]), float(done[1]), float(done[2]), float(done[3])
    theirs = [float(v) for v in done[5:]]
    model = asked(lake, "SELECT model, parameter, value, log_likelihood, chosen FROM clv_model WHERE model <> 'mbg_nbd' ORDER BY model, parameter")
    stage = seconds["value"]
    print(f"{customers} customers, the stage `value` (BG/NBD, MBG/NBD and Gamma-Gamma, scores, tables): {stage:.1f} s, "
          f"{ours:.0f} MB at most in the whole night\n"
          f"lifetimes: BG/NBD and Gamma-Gamma in {fitted:.1f} s, scores in {scored:.1f} s, {memory:.0f} MB\n"
          f"ratios: {stage / (fitted + scored):.3f} of the time, {ours / memory:.2f} of the memory\n")
    print("| parameter | Tessera | lifetimes |\n|---|--:|--:|")
    theirs = dict(zip(["r", "alpha", "a", "b", "p", "q", "gamma"], theirs))
    for row in model:
        print(f"| {row['parameter']} | {row['value']:.4f} | {theirs[row['parameter']]:.4f} |")


if len(sys.argv) > 1:
    million(sys.argv[1])
else:
    panel()
