"""Published figures, and what they give away together. Whoever reads the KPIs of a night reads a system of linear equations over what each
segment's customers add up to: whatever sum of one expression, or difference of two, follows from it must stand for nobody or for k people."""

import csv
import io
import itertools
import json
import os
import shutil

from sources import PROJECT, Shop
from trials import Broken, run

# Exact enough: that a sum follows by chance has a probability of one in 10^18.
PRIME = (1 << 61) - 1


class Figures:
    def __init__(self, tessera, folder):
        self.tessera, self.folder = tessera, folder
        self.shop = Shop(tessera, folder)
        (text,) = os.listdir(f"{folder}/lake/_tessera/projects")
        with open(f"{folder}/lake/_tessera/projects/{text}") as project:
            kpis = json.load(project)["kpis"]
        self.kpis = {
            name: (k["numerator"], k.get("denominator") or "1", counted(k.get("denominator") or "1")) for name, k in kpis.items() if k.get("enabled", True)
        }
        self.sums = sorted({one for three in self.kpis.values() for one in three})
        # What always holds between values of one customer, an attacker knows. It is found among many.
        made = run([tessera, "generate", "--customers", "3000", "--format", "csv", "--out", "many/data"], folder)
        if made.code:
            raise Broken(made.err)
        shutil.copy(f"{folder}/{PROJECT}", f"{folder}/many")
        ended = self.night(f"{folder}/many", "2026-01-01")
        if ended.code:
            raise Broken(ended.err)
        values = [row for _, row in self.values(f"{folder}/many", "2026-01-01")]
        self.always = nullspace(values, len(self.sums))

    def night(self, folder, as_of, *further):
        return run([self.tessera, "run", "--as-of", as_of, "--project", PROJECT, "--lake", "lake", *further], folder)

    def rows(self, folder, as_of, query):
        command = [self.tessera, "sql", query, "--as-of", as_of, "--restricted", "--format", "csv", "--project", PROJECT, "--lake", "lake"]
        told = run(command, folder)
        if told.code:
            raise Broken(told.err)
        return list(csv.reader(io.StringIO(told.out)))[1:]

    def values(self, folder, as_of):
        """The segment of every customer, and their value of each sum, in millionths."""
        columns = ", ".join(f"CAST(CAST(coalesce({one}, 0) AS DECIMAL(38, 6)) * 1000000 AS BIGINT)" for one in self.sums)
        query = (
            f"SELECT s.segment_id, {columns} FROM features AS f JOIN segments AS s ON f.customer_key = s.customer_key "
            "LEFT JOIN (SELECT a.customer_key AS who, c.acquisition_cost FROM clean_customers AS c JOIN accounts AS a "
            "ON a.account_key = c.account_key) ON who = f.customer_key"
        )
        return [(int(row[0]), [int(v) for v in row[1:]]) for row in self.rows(folder, as_of, query)]

    def attack(self, r, folder):
        os.symlink(f"{self.folder}/data", f"{folder}/data")
        shutil.copy(f"{self.folder}/{PROJECT}", folder)
        k, segments = r.randrange(2, 9), r.randrange(2, 5)
        as_of = f"2025-{r.randrange(3, 13):02}-{r.randrange(1, 29):02}"
        ended = self.night(folder, as_of, "--set", f"privacy.k={k}", "--set", f"segmentation.k={segments}")
        if ended.code:
            return f"ends with {ended.code}"
        customers = self.values(folder, as_of)
        groups = sorted({segment for segment, _ in customers})
        at = {pair: i for i, pair in enumerate(itertools.product(groups, self.sums))}
        basis = Basis(len(at))

        def functional(terms, within):
            row = [0] * len(at)
            for group in within:
                for one, factor in terms:
                    row[at[group, one]] = factor
            return row

        for group in groups:
            for relation in self.always:
                basis.add(functional([(one, c) for one, c in zip(self.sums, relation) if c], [group]))
        hidden = 0
        for segment, kpi, numerator, denominator, n in self.rows(
            folder, as_of, "SELECT segment_id, kpi, numerator, denominator, n FROM kpis WHERE state <> 'not_available'"
        ):
            of = [int(segment)] if segment else groups
            hidden += not numerator
            for one, told in zip(self.kpis[kpi], (numerator, denominator, n)):
                if told:
                    basis.add(functional([(one, 1)], of))
        found = [[(one, 1)] for one in self.sums] + [[(a, 1), (b, -1)] for a, b in itertools.combinations(self.sums, 2)]
        place = {one: i for i, one in enumerate(self.sums)}
        for size in range(1, len(groups) + 1):
            for within in itertools.combinations(groups, size):
                for terms in found:
                    people = sum(1 for segment, v in customers if segment in within and sum(f * v[place[s]] for s, f in terms))
                    if 0 < people < k and basis.spans(functional(terms, within)):
                        what = " less ".join(s for s, _ in terms)
                        raise Broken(f"as of {as_of}, k {k}, {segments} segments: {what} of segments {within} follows, of {people} people")
        return "nothing of few follows" if hidden else "nothing of few follows, nothing is hidden"


def counted(denominator):
    return f"CASE WHEN ({denominator}) <> 0 THEN 1 ELSE 0 END"


class Basis:
    """Linear equations, reduced as they come, over the integers modulo a prime."""

    def __init__(self, width):
        self.width, self.rows = width, {}

    def reduced(self, row):
        row = [v % PRIME for v in row]
        for at in range(self.width):
            if row[at] and at in self.rows:
                factor = row[at]
                row = [(v - factor * w) % PRIME for v, w in zip(row, self.rows[at])]
        return row

    def add(self, row):
        row = self.reduced(row)
        lead = next((at for at in range(self.width) if row[at]), None)
        if lead is not None:
            inverse = pow(row[lead], -1, PRIME)
            self.rows[lead] = [v * inverse % PRIME for v in row]

    def spans(self, row):
        return not any(self.reduced(row))


def nullspace(rows, width):
    """The relations c with sum(c * row) = 0 for every row."""
    basis = Basis(width)
    for row in rows:
        if len(basis.rows) < width:
            basis.add(row)
    # From the last, so that every leading column stands alone.
    for lead in sorted(basis.rows, reverse=True):
        for above in [a for a in basis.rows if a < lead and basis.rows[a][lead]]:
            factor = basis.rows[above][lead]
            basis.rows[above] = [(v - factor * w) % PRIME for v, w in zip(basis.rows[above], basis.rows[lead])]
    free = [at for at in range(width) if at not in basis.rows]
    relations = []
    for at in free:
        relation = [0] * width
        relation[at] = 1
        for lead, row in basis.rows.items():
            relation[lead] = -row[at] % PRIME
        relations.append(relation)
    return relations
