"""days.py FROM OUT: cuts the peers' transactions into what a shop has after two years, and what one day more brings.

FROM holds `customers/` and `transactions/` as gen.py makes them. OUT gets two histories of 730 and 365 days before 2025-12-31,
a file a month in the order of time (`long/`, `short/`), the day (`day/`, about 27,000 lines, of which one in twenty is up to
30 days late and so missing in the histories), and two dumps of the customers: as they are, and with one in two hundred changed.
"""

import datetime as dt
import pathlib
import sys

import polars as pl

source, out = map(pathlib.Path, sys.argv[1:3])
DAY = dt.datetime(2025, 12, 31)
lines = pl.read_parquet(source / "transactions/*.parquet").filter(pl.col("ts") < DAY + dt.timedelta(days=1)).sort("ts")
today = lines.filter(pl.col("ts") >= DAY)
recent = lines.filter((pl.col("ts") < DAY) & (pl.col("ts") >= DAY - dt.timedelta(days=30)))
late = recent.sample(n=len(today) // 19, seed=7)
day = pl.concat([today, late]).sort("ts")
known = lines.filter(pl.col("ts") < DAY).join(late.select("transaction_id").unique(), on="transaction_id", how="anti")
for name, days in (("long", 730), ("short", 365)):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    history = known.filter(pl.col("ts") >= DAY - dt.timedelta(days=days))
    for (month,), part in history.group_by(pl.col("ts").dt.strftime("%Y-%m"), maintain_order=True):
        part.write_parquet(folder / f"{month}.parquet", row_group_size=262_144)
    print(name, len(history))
(out / "day").mkdir(parents=True, exist_ok=True)
day.write_parquet(out / "day/2025-12-31.parquet")
print("day", len(day), "of which late", len(late))
people = pl.read_parquet(source / "customers/*.parquet")
changed = people.with_row_index().with_columns(
    city=pl.when(pl.col("index") % 200 == 0).then(pl.lit("Elsewhere")).otherwise(pl.col("city"))
).drop("index")
for name, frame in (("dump", people), ("dump-changed", changed)):
    (out / name).mkdir(parents=True, exist_ok=True)
    frame.write_parquet(out / name / "customers.parquet", row_group_size=262_144)
