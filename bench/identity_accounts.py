"""Accounts of people, some of whom have several, as customers exports have them: python identity_accounts.py N OUT.

Names follow Zipf's law over made-up syllables, a twentieth of the accounts are somebody's again with slips of the fingers, moves, other
addresses and telephones. OUT/customers.parquet, and OUT/truth.csv with the person of each account. The same seed gives the same people."""
import sys
import datetime
import pathlib

import numpy as np
import polars as pl

SYLLABLES = "ba be bi bo da de di do fa fi ga go ha hi ka ke ki la le li lo ma me mi mo na ne ni no pa pe ra re ri ro sa se si so ta te ti to va vi wa we za".split()


def words(rng, n, least, most):
    found = {}
    while len(found) < n:
        word = "".join(rng.choice(SYLLABLES, rng.integers(least, most + 1))) + rng.choice(["", "n", "r", "s", "l"])
        found[word.capitalize()] = None
    return np.array(list(found))


def zipf(rng, n, size):
    weights = 1.0 / np.arange(1, n + 1) ** 0.8
    return rng.choice(n, size, p=weights / weights.sum())


def typo(rng, word):
    if len(word) < 3:
        return word
    at = int(rng.integers(1, len(word) - 1))
    match int(rng.integers(3)):
        case 0:
            return word[:at] + word[at + 1 :]
        case 1:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        case _:
            return word[:at] + word[at] + word[at:]


def main(n, out, seed=7):
    rng = np.random.default_rng(seed)
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    people = int(n / 1.05)
    given, family = words(rng, 1500, 2, 3), words(rng, 15000, 2, 4)
    towns, streets = words(rng, 900, 2, 4), words(rng, 3000, 2, 4)
    town = zipf(rng, len(towns), people)
    columns = {
        "first_name": given[zipf(rng, len(given), people)],
        "last_name": family[zipf(rng, len(family), people)],
        "birth_date": np.datetime64("1935-01-01") + rng.integers(0, 25000, people).astype("timedelta64[D]"),
        "city": towns[town],
        "postal_code": np.char.zfill((10000 + town * 80 + rng.integers(0, 80, people)).astype(str), 5),
        "address": np.char.add(np.char.add(streets[rng.integers(0, len(streets), people)], " Street "), rng.integers(1, 200, people).astype(str)),
    }
    who = np.arange(people)
    numbers = 1_500_000_000 + (who * 7_654_321) % 100_000_000
    email = [f"{g.lower()}.{f.lower()}{w % 9973}@example.com" for g, f, w in zip(columns["first_name"], columns["last_name"], who)]
    rows = {name: list(values) for name, values in columns.items()}
    rows["birth_date"] = [d.astype(datetime.date) for d in columns["birth_date"]]
    rows["email"] = [e if keep else None for e, keep in zip(email, rng.random(people) < 0.7)]
    rows["phone"] = [f"+49{p}" if keep else None for p, keep in zip(numbers, rng.random(people) < 0.6)]
    person = list(who)
    for at in rng.integers(0, people, n - people):
        row = {name: values[at] for name, values in rows.items()}
        chance = rng.random(8)
        if chance[0] < 0.3:
            row["first_name"] = typo(rng, row["first_name"])
        if chance[1] < 0.3:
            row["last_name"] = typo(rng, row["last_name"])
        if chance[2] < 0.1:
            d = row["birth_date"]
            row["birth_date"] = datetime.date(d.year, d.day, d.month) if d.day <= 12 else d + datetime.timedelta(days=10)
        if chance[3] < 0.3:
            row["address"] = f"{streets[int(rng.integers(len(streets)))]} Street {int(rng.integers(1, 200))}"
            move = int(rng.integers(len(towns)))
            row["city"], row["postal_code"] = towns[move], str(10000 + move * 80 + int(rng.integers(80)))
        if chance[4] < 0.4:
            row["email"] = None if chance[5] < 0.5 else f"new{int(rng.integers(10**9))}@example.org"
        if chance[6] < 0.4:
            row["phone"] = None if chance[7] < 0.5 else f"+49{int(rng.integers(1_600_000_000, 1_700_000_000))}"
        for name, value in row.items():
            rows[name].append(value)
        person.append(int(at))
    order = rng.permutation(n)
    frame = pl.DataFrame(rows, schema_overrides={"birth_date": pl.Date}, strict=False)[order]
    ids = pl.Series("customer_id", [f"A{i:08d}" for i in range(n)])
    frame = frame.insert_column(0, ids)
    (out / "customers").mkdir(exist_ok=True)
    frame.write_parquet(out / "customers" / "part-0.parquet")
    pl.DataFrame({"customer_id": ids, "person": [f"P{person[i]}" for i in order]}).write_csv(out / "truth.csv")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
