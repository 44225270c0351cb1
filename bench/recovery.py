"""recovery.py [CUSTOMERS]: how well segments at default settings are the kinds of customers that the generator drew from, and how well
two halves of the same customers agree; beside scikit-learn's KMeans on the same features, scaled alike."""
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

BINARY = os.environ["TESSERA_BIN"]
WORK = Path(os.environ.get("BENCH_DIR", Path.home() / ".cache/tessera-bench")) / "recovery"
NIGHT = "2026-01-01"
# Drawn for nobody unless planted, and then late.
PLANTED = "social_shoppers"


def tessera(folder, *args):
    done = subprocess.run([BINARY, *args], cwd=folder, capture_output=True)
    if done.returncode:
        sys.exit(done.stderr.decode())
    return done.stdout


def sql(folder, query):
    return pl.read_parquet(io.BytesIO(tessera(folder, "sql", query, "--restricted", "--format", "parquet")))


def points(folder, model):
    """The customers of a folder on the axes of a model."""
    features = sql(folder, "SELECT * FROM features ORDER BY customer_key")
    columns = []
    for axis in model.unique("feature").sort("feature").iter_rows(named=True):
        x = features[axis["feature"]].cast(pl.Float64).to_numpy().copy()
        missing = np.isnan(x)
        x = np.clip(x, -np.inf if axis["low"] is None else axis["low"], np.inf if axis["high"] is None else axis["high"])
        if axis["imputed"] is not None:
            x[missing] = axis["imputed"]
        if axis["transform"] == "log1p":
            x = np.log1p(np.maximum(x, 0))
        z = (x - axis["mean"]) / axis["scale"]
        z[np.isnan(z)] = 0
        columns.append(z)
    return features["customer_key"].to_list(), np.array(columns).T


def centroids(model):
    ids = sorted(model["segment_id"].unique())
    return np.array([model.filter(segment_id=i).sort("feature")["centroid"].to_list() for i in ids])


def nearest(points, centroids):
    return ((points[:, None] - centroids[None]) ** 2).sum(2).argmin(1)


def main():
    customers = sys.argv[1] if len(sys.argv) > 1 else "20000"
    os.environ.setdefault("TESSERA_SECRET", "a benchmark keeps no secrets")
    subprocess.run(["rm", "-rf", WORK], check=True)
    whole = WORK / "whole"
    whole.mkdir(parents=True)
    project = Path(os.environ["TESSERA_DEMO_PROJECT"]).read_text()
    (whole / "tessera.toml").write_text(project)
    tessera(whole, "generate", "--customers", customers, "--out", "data")
    tessera(whole, "run", "--as-of", NIGHT)
    model = sql(whole, "SELECT * FROM model")
    keys, x = points(whole, model)
    segments = dict(sql(whole, "SELECT customer_key, segment_id FROM segments").iter_rows())
    truth = pl.read_parquet(whole / "data/truth/customers/*.parquet").select("cust_no", "archetype")
    ids = sql(whole, "SELECT customer_id, customer_key FROM identity")
    kinds = dict(ids.join(truth, left_on="customer_id", right_on="cust_no").select("customer_key", "archetype").iter_rows())
    judged = np.array([kinds.get(key, PLANTED) != PLANTED for key in keys])
    kind = np.array([kinds.get(key, "") for key in keys])
    ours = np.array([segments[key] for key in keys])
    k = len(set(ours))
    rand = lambda labels: adjusted_rand_score(kind[judged], labels[judged])
    print(f"{customers} customers, {judged.sum()} judged")
    print("| adjusted Rand with the kinds | k | |\n|---|--:|--:|")
    print(f"| Tessera, default settings | {k} | {rand(ours):.3f} |")
    for other in sorted({k, 8}):
        print(f"| scikit-learn | {other} | {rand(KMeans(other, n_init=10, random_state=0).fit(x).labels_):.3f} |")

    halves = []
    for half in (0, 1):
        folder = WORK / f"half{half}"
        folder.mkdir()
        (folder / "tessera.toml").write_text(project)
        for source in sorted((whole / "data").iterdir()):
            if not source.is_dir() or source.name == "truth":
                continue
            rows = pl.concat([pl.read_parquet(f) for f in sorted(source.glob("*.parquet"))], how="vertical_relaxed")
            if "cust_no" in rows.columns:
                rows = rows.filter((pl.col("cust_no").fill_null("").hash(11) % 2) == half)
            (folder / "data" / source.name).mkdir(parents=True)
            rows.write_parquet(folder / "data" / source.name / "part-0.parquet")
        tessera(folder, "run", "--as-of", NIGHT)
        halves.append(sql(folder, "SELECT * FROM model"))
    print("| two halves agree (adjusted Rand) | k | |\n|---|--:|--:|")
    ks = [model["segment_id"].n_unique() for model in halves]
    _, x = points(WORK / "half1", halves[1])
    _, as_other = points(WORK / "half1", halves[0])
    agree = adjusted_rand_score(nearest(as_other, centroids(halves[0])), nearest(x, centroids(halves[1])))
    print(f"| Tessera, default settings | {ks[0]} and {ks[1]} | {agree:.3f} |")
    fits = [KMeans(8, n_init=10, random_state=0).fit(points(WORK / f"half{h}", halves[h])[1]) for h in (0, 1)]
    print(f"| scikit-learn | 8 and 8 | {adjusted_rand_score(fits[0].predict(as_other), fits[1].labels_):.3f} |")


main()
