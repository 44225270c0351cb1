"""planted.py [CASES]: clouds of customers night after night, in which on one night nothing happens, a cloud is born, two become one, one
becomes two, or all move. Holds what a night reports against what was planted, and prints the table, precision and recall.

Every customer is where it was the night before but for a little noise, so that whatever else is reported is wrong."""
import csv
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

BINARY = os.environ["TESSERA_BIN"]
KINDS = ["nothing", "born", "merged", "split", "drift"]
FEATURES = 6
NIGHTS = 5
CLOUD = 250
PROJECT = """[project]
name = "planted"
[sources.customers]
url = "customers.csv"
columns = {{ {columns} }}
types = {{ {types} }}
[identity]
enabled = false
[segmentation]
population = "customers"
features = [{features}]
objectives.value = "f0"
min_k = 3
max_k = 8
[quality.checks]
files_gone.required = false
rows_kept.required = false
"""
FEATURE = """[features.f{0}]
criterion = "behavioural"
over = "customers"
expression = "f{0}"
unit = "points"
description = "Feature {0}"
"""


def project(folder):
    names = [f"f{i}" for i in range(FEATURES)]
    text = PROJECT.format(
        columns=", ".join(f'{n} = "{n}"' for n in names),
        types=", ".join(f'{n} = "float"' for n in names),
        features=", ".join(f'"{n}"' for n in names),
    )
    (folder / "tessera.toml").write_text(text + "".join(FEATURE.format(i) for i in range(FEATURES)))


def centre(rng, others, apart=6.0):
    """A place that is far enough from the others."""
    while True:
        place = [rng.uniform(-8, 8) for _ in range(FEATURES)]
        if all(sum((a - b) ** 2 for a, b in zip(place, other)) > apart**2 for other in others):
            return place


def around(rng, place, spread=1.0):
    return [rng.gauss(x, spread) for x in place]


def nights(seed, kind):
    """The customers of each night, and the night (from 0) on which something was planted."""
    rng = random.Random(seed)
    centres = []
    for _ in range(4 + seed % 2):
        centres.append(centre(rng, centres))
    people = {f"c{k}-{i}": around(rng, place) for k, place in enumerate(centres) for i in range(CLOUD)}
    planted = rng.randrange(1, NIGHTS)
    for night in range(NIGHTS):
        if night == planted:
            ours = [key for key in people if key.startswith("c0-")]
            if kind == "born":
                place = centre(rng, centres)
                people.update({f"n-{i}": around(rng, place) for i in range(CLOUD)})
            elif kind == "merged":
                for key in ours:
                    people[key] = around(rng, centres[1])
            elif kind == "split":
                place = centre(rng, centres)
                for key in ours[: CLOUD // 2]:
                    people[key] = around(rng, place)
            elif kind == "drift":
                # All move by one and a half of their deviations in one feature.
                values = [p[1] for p in people.values()]
                mean = sum(values) / len(values)
                deviation = (sum((x - mean) ** 2 for x in values) / len(values)) ** 0.5
                for key in people:
                    people[key][1] += 1.5 * deviation
        yield night == planted, {key: [x + rng.gauss(0, 0.05) for x in p] for key, p in people.items()}


def tessera(folder, *args):
    done = subprocess.run([BINARY, *args], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def reported(folder, as_of):
    """What the night says happened."""
    query = "SELECT DISTINCT event FROM segment_lineage WHERE event <> 'carried' AND coalesce(ended, as_of) = as_of"
    events = set(tessera(folder, "sql", query, "--as-of", as_of, "--format", "csv").split()[1:])
    for kind in ["merged", "split", "born"]:
        if kind in events:
            return kind
    shifted = tessera(folder, "sql", "SELECT feature FROM drift WHERE clustered_on AND state = 'shifted'", "--as-of", as_of, "--format", "csv")
    return "drift" if len(shifted.split()) > 1 else "nothing"


def main():
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    work = Path(os.environ.get("BENCH_DIR", Path.home() / ".cache/tessera-bench")) / "planted"
    os.environ.setdefault("TESSERA_SECRET", "a benchmark keeps no secrets")
    seen, took = Counter(), time.time()
    for case in range(cases):
        kind = KINDS[case % len(KINDS)]
        folder = work / str(case)
        subprocess.run(["rm", "-rf", folder], check=True)
        folder.mkdir(parents=True)
        project(folder)
        for night, (planted, people) in enumerate(nights(case, kind)):
            with open(folder / "customers.csv", "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["customer_id", *(f"f{i}" for i in range(FEATURES))])
                writer.writerows([key, *(f"{x:.6f}" for x in p)] for key, p in sorted(people.items()))
            as_of = f"2026-01-{night + 1:02}"
            tessera(folder, "run", "--as-of", as_of)
            if night:
                told = reported(folder, as_of)
                truth = kind if planted else "nothing"
                seen[truth, told] += 1
                if truth != told and os.environ.get("VERBOSE"):
                    print(f"case {case}, night {as_of}: {truth} was reported as {told}")
        subprocess.run(["rm", "-rf", folder], check=True)
    print(f"{cases} cases of {NIGHTS} nights in {time.time() - took:.0f} s; rows: planted, columns: reported")
    print("| | " + " | ".join(KINDS) + " | recall | precision |")
    print("|---|" + "--:|" * (len(KINDS) + 2))
    for kind in KINDS:
        row, column = sum(seen[kind, k] for k in KINDS), sum(seen[k, kind] for k in KINDS)
        right = seen[kind, kind]
        shares = [f"{right / n:.3f}" if n else "" for n in (row, column)]
        print(f"| {kind} | " + " | ".join(str(seen[kind, k]) for k in KINDS) + " | " + " | ".join(shares) + " |")


main()
