"""Published figures, and what they give away together. Whoever reads the KPIs and profiles of two nights reads a system of linear equations
over what each segment's customers add up to on either: whatever sum of one expression, difference of two, or change of one between the nights
follows from it must stand for nobody or for k people."""

import csv
import datetime
import io
import itertools
import json
import os
import shutil
import zoneinfo

import numpy

from sources import PROJECT, Shop
from trials import Broken, run

# In place of a segment, of people who have none.
NOBODYS = -1
ONE = 1_000_000

# Exact enough: that a sum follows by chance has a probability of one in two billion.
PRIME = (1 << 31) - 1


class Figures:
    def __init__(self, tessera, folder):
        self.tessera, self.folder = tessera, folder
        self.shop = Shop(tessera, folder)
        (text,) = os.listdir(f"{folder}/lake/_tessera/projects")
        with open(f"{folder}/lake/_tessera/projects/{text}") as project:
            content = json.load(project)
        kpis = content["kpis"]
        # Of these, people without a segment add to what is told of everybody.
        self.wide = {name for name, k in kpis.items() if k.get("population") == "everybody"}
        self.zone = zoneinfo.ZoneInfo(content["project"]["timezone"])
        self.kpis = {
            name: (k["numerator"], k.get("denominator") or "1", counted(k.get("denominator") or "1")) for name, k in kpis.items() if k.get("enabled", True)
        }
        features = content["features"].items()
        self.features = [name for name, f in features if f.get("enabled", True) and f.get("type", "float") != "text"]
        profiled = {one for name in self.features for one in (name, known(name))}
        self.sums = sorted({one for three in self.kpis.values() for one in three} | profiled)
        # What always holds between values of one customer, an attacker knows. It is found among many.
        made = run([tessera, "generate", "--customers", "3000", "--format", "csv", "--out", "many/data"], folder)
        if made.code:
            raise Broken(made.err)
        shutil.copy(f"{folder}/{PROJECT}", f"{folder}/many")
        ended = self.night(f"{folder}/many", "2026-01-01")
        if ended.code:
            raise Broken(ended.err)
        values = [v for segment, v in self.values(f"{folder}/many", "2026-01-01").values() if segment != NOBODYS]
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
        """Of every customer the segment, and their value of each sum in millionths."""
        columns = ", ".join(f"CAST(CAST(coalesce({one}, 0) AS DECIMAL(38, 6)) * 1000000 AS BIGINT)" for one in self.sums)
        query = (
            f"SELECT f.customer_key, s.segment_id, {columns} FROM features AS f JOIN segments AS s ON f.customer_key = s.customer_key "
            "LEFT JOIN (SELECT a.customer_key AS who, c.acquisition_cost FROM clean_customers AS c JOIN accounts AS a "
            "ON a.account_key = c.account_key WHERE a.customer_key NOT IN (SELECT customer_key FROM golden_records) "
            "UNION ALL SELECT customer_key, acquisition_cost FROM golden_records) ON who = f.customer_key "
            "LEFT JOIN (SELECT customer_key AS valued, clv, churn_risk FROM customer_value) ON valued = f.customer_key"
        )
        found = {row[0]: (int(row[1]), [int(v) for v in row[2:]]) for row in self.rows(folder, as_of, query)}
        wide = {one for name in self.wide for one in self.kpis[name]}
        values = (f"CAST(CAST(coalesce({one}, 0) AS DECIMAL(38, 6)) * 1000000 AS BIGINT)" if one in wide else "0" for one in self.sums)
        columns = ", ".join(f"{value} AS v{at}" for at, value in enumerate(values))
        for row in self.rows(folder, as_of, f"SELECT customer_key, {NOBODYS}, {columns} FROM prospects"):
            found[row[0]] = (int(row[1]), [int(v) for v in row[2:]])
        return found

    def items(self, folder, as_of, breakdown):
        """What a breakdown tells by campaign and channel: each sum with the segments that it is over, and what everybody adds to it."""
        night = datetime.datetime.fromisoformat(as_of).replace(tzinfo=self.zone)
        first = (datetime.datetime.fromisoformat(as_of) - datetime.timedelta(days=90)).replace(tzinfo=self.zone)
        query = (
            'SELECT a.customer_key, campaign_id, channel, "group", CAST(contacted_at AS VARCHAR), CAST(responded_at AS VARCHAR), '
            "CAST(converted_at AS VARCHAR), CAST(CAST(converted_amount AS DECIMAL(38, 6)) * 1000000 AS BIGINT), "
            "CAST(CAST(cost AS DECIMAL(38, 6)) * 1000000 AS BIGINT) FROM clean_campaign_contacts AS c JOIN accounts AS a ON a.account_key = c.account_key"
        )
        contacts = []
        for who, campaign, channel, group, contacted, responded, converted, amount, cost in self.rows(folder, as_of, query):
            if not first <= instant(contacted) < night:
                continue
            treated = group.strip().lower() not in ("holdout", "control")
            answered, bought = (bool(t) and instant(t) < night for t in (responded, converted))
            contacts.append((who, {"campaign": campaign, "channel": channel or "unknown"}, treated, answered, bought, int(amount or 0) * bought, cost))
        told = self.rows(
            folder, as_of,
            "SELECT breakdown, dimension, item, segment_id, numerator, denominator, versus_numerator, versus_denominator FROM kpi_breakdowns "
            f"WHERE breakdown = '{breakdown}'",
        )
        of = {
            "response_rate": lambda answered, bought, amount, cost: (answered * ONE, ONE),
            "uplift": lambda answered, bought, amount, cost: (bought * ONE, ONE),
            "roi": lambda answered, bought, amount, cost: (amount, int(cost)) if cost else (0, 0),
        }
        known = {d: {row[2] for row in told if row[1] == d} for d in ("campaign", "channel")}
        people, cells = {}, []
        for name, dimension, item, segment, *figures in told:
            for at, figure in enumerate(figures):
                key = (name, dimension, item, at)
                if key not in people:
                    people[key] = {}
                    for who, where, treated, *rest in contacts:
                        place = where.get(dimension)
                        here = not dimension or place == item or item == "other" and place not in known[dimension]
                        if here and treated == (at < 2):
                            people[key][who] = people[key].get(who, 0) + of[name](*rest)[at % 2]
                if figure:
                    cells.append((key, int(segment) if segment else None))
        return people, cells

    def told(self, folder, as_of, groups):
        """The sums that a night tells: each with the segments that it is over."""
        for segment, kpi, *told in self.rows(
            folder, as_of, "SELECT segment_id, kpi, numerator, denominator, n FROM kpis WHERE state <> 'not_available'"
        ):
            of = [int(segment)] if segment else [g for g in groups if g != NOBODYS or kpi in self.wide]
            yield from ((one, of) for one, cell in zip(self.kpis[kpi], told) if cell)
        profiles = self.rows(folder, as_of, "SELECT segment_id, feature, customers, mean, population_mean FROM segment_profiles")
        for segment, feature, customers, mean, population in profiles:
            if customers:
                yield known(feature), [int(segment)]
                if mean:
                    yield feature, [int(segment)]
            # A mean is a sum only to those who know how many it is over.
            if population and all(row[2] for row in profiles if row[1] == feature):
                yield feature, [g for g in groups if g != NOBODYS]

    def attack(self, r, folder):
        os.symlink(f"{self.folder}/data", f"{folder}/data")
        shutil.copy(f"{self.folder}/{PROJECT}", folder)
        k, segments = r.randrange(2, 9), r.randrange(2, 5)
        first = datetime.date(2025, r.randrange(3, 13), r.randrange(1, 29))
        nights = [str(first), str(first + datetime.timedelta(days=r.choice([1, 1, 2, 7, 30])))]
        for as_of in nights if r.random() < 0.7 else reversed(nights):
            ended = self.night(folder, as_of, "--set", f"privacy.k={k}", "--set", f"segmentation.k={segments}")
            if ended.code:
                return f"ends with {ended.code}"
        customers = [self.values(folder, as_of) for as_of in nights]
        groups = [sorted({segment for segment, _ in night.values()}) for night in customers]
        breakdown = r.choice(["response_rate", "uplift", "uplift", "roi"])
        items = [self.items(folder, as_of, breakdown) for as_of in nights]
        everything = sorted({key for people, _ in items for key in people})
        sums = self.sums + everything
        for night, (people, _) in zip(customers, items):
            for key, (_, values) in night.items():
                values.extend(people.get(one, {}).get(key, 0) for one in everything)
        cells = [(night, group, one) for night in (0, 1) for group in groups[night] for one in sums]
        at = {cell: i for i, cell in enumerate(cells)}
        basis = Basis(len(at))

        def functional(terms):
            row = numpy.zeros(len(at), dtype=numpy.int64)
            for night, one, within, factor in terms:
                for group in within:
                    row[at[night, group, one]] += factor
            return row

        for night in (0, 1):
            for group in groups[night]:
                for relation in self.always:
                    basis.add(functional([(night, one, [group], c) for one, c in zip(self.sums, relation) if c]))
                # All items of a dimension are all together.
                for name, dimension, figure in {(n, d, figure) for n, d, _, figure in items[night][0] if d}:
                    parts = [one for one in items[night][0] if (one[0], one[1], one[3]) == (name, dimension, figure)]
                    whole = (name, "", "", figure)
                    if whole in items[night][0]:
                        basis.add(functional([(night, one, [group], 1) for one in parts] + [(night, whole, [group], -1)]))
            for one, of in self.told(folder, nights[night], groups[night]):
                basis.add(functional([(night, one, of, 1)]))
            for one, segment in items[night][1]:
                basis.add(functional([(night, one, groups[night] if segment is None else [segment], 1)]))
        hidden = len(at) - len(basis.pivots)

        everybody = sorted({key for night in customers for key in night})
        nobody = (None, [0] * len(sums))
        segment = [numpy.array([-1 if key not in night else night[key][0] for key in everybody]) for night in customers]
        value = [numpy.array([night.get(key, nobody)[1] for key in everybody]) for night in customers]

        def unions(night):
            return [within for size in range(1, len(groups[night]) + 1) for within in itertools.combinations(groups[night], size)]

        def within(night, union):
            return numpy.where(numpy.isin(segment[night], union)[:, None], value[night], 0)

        def few(terms, n):
            if 0 < n < k and basis.spans(functional(terms)):
                what = " less ".join(f"{one} of segments {union} on {nights[night]}" for night, one, union, _ in terms)
                raise Broken(f"k {k}, {segments} segments, nights {nights}: {what} follows, of {n} people")

        values = {(night, union): within(night, union) for night in (0, 1) for union in unions(night)}
        for (night, union), v in values.items():
            for a, one in enumerate(sums):
                few([(night, one, union, 1)], int((v[:, a] != 0).sum()))
                for b, n in enumerate((v[:, [a]] != v[:, :a]).sum(axis=0)):
                    few([(night, one, union, 1), (night, sums[b], union, -1)], int(n))
        for g, h in itertools.product(unions(1), unions(0)):
            for a, n in enumerate((values[1, g] != values[0, h]).sum(axis=0)):
                # That somebody came or left, the number of rows tells.
                if not all((v[s >= 0, a] == 1_000_000).all() for s, v in zip(segment, value)):
                    few([(1, sums[a], g, 1), (0, sums[a], h, -1)], int(n))
        return "nothing of few follows" if hidden else "nothing of few follows, nothing is hidden"


def instant(text):
    at = datetime.datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=datetime.timezone.utc)


def known(feature):
    return f"CASE WHEN {feature} IS NULL THEN 0 ELSE 1 END"


def counted(denominator):
    return f"CASE WHEN ({denominator}) <> 0 THEN 1 ELSE 0 END"


class Basis:
    """Linear equations, each reduced by all others, over the integers modulo a prime."""

    def __init__(self, width):
        self.pivots, self.rows = [], numpy.zeros((0, width), dtype=numpy.int64)

    def reduced(self, row):
        row = row % PRIME
        if self.pivots:
            factors = row[self.pivots]
            which = factors.nonzero()[0]
            row = (row - (factors[which, None] * self.rows[which] % PRIME).sum(axis=0)) % PRIME
        return row

    def add(self, row):
        row = self.reduced(row)
        if not row.any():
            return
        lead = int(row.nonzero()[0][0])
        row = row * pow(int(row[lead]), -1, PRIME) % PRIME
        factors = self.rows[:, lead].copy()
        self.rows = (self.rows - factors[:, None] * row[None, :] % PRIME) % PRIME
        self.rows = numpy.vstack([self.rows, row])
        self.pivots.append(lead)

    def spans(self, row):
        return not self.reduced(row).any()


def nullspace(rows, width):
    """The relations c with sum(c * row) = 0 for every row."""
    basis = Basis(width)
    for row in rows:
        if len(basis.pivots) < width:
            basis.add(numpy.array([v % PRIME for v in row], dtype=numpy.int64))
    relations = []
    for at in (at for at in range(width) if at not in basis.pivots):
        relation = [0] * width
        relation[at] = 1
        for lead, row in zip(basis.pivots, basis.rows):
            relation[lead] = int(-row[at] % PRIME)
        relations.append(relation)
    return relations
