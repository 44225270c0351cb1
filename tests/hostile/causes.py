"""Causes that are named, and whom they are of. A channel or a category is taken out of a shop, at random places, so that something is found; whatever is
named is of k people at least before, after and otherwise than before, or of nobody, and so is what is beside it, where all but one of its conditions hold."""

import csv
import datetime
import os
import shutil

from figures import Figures, instant
from sources import PROJECT
from trials import Broken

DIMENSIONS = ("segment", "channel", "category")


class Causes(Figures):
    def attack(self, r, folder):
        # A shop in which something can be found.
        shutil.copytree(f"{self.folder}/many/data", f"{folder}/data")
        shutil.copy(f"{self.folder}/{PROJECT}", folder)
        k, segments = r.randrange(2, 9), r.randrange(2, 4)
        first = datetime.date(2025, r.randrange(6, 12), r.randrange(1, 29))
        nights = [str(first), str(first + datetime.timedelta(days=r.choice([7, 30, 60])))]
        column, keep = r.choice(["sales_channel", "product_group"]), r.choice([0.0, 0.1, 0.3])
        self.take_out(r, f"{folder}/data/transactions", column, keep, nights)
        for as_of in nights:
            # Loud, so that there is something to look at.
            loud = ["causes.false_discoveries=0.5", "causes.recurrence=0.0", "causes.share=0.0", "causes.most=20"]
            settings = [f"privacy.k={k}", f"segmentation.k={segments}", *loud]
            ended = self.night(folder, as_of, *(part for one in settings for part in ("--set", one)))
            if ended.code:
                return f"ends with {ended.code}"
        cells = [self.cells(folder, as_of) for as_of in nights]
        query = (
            "SELECT segment_id, array_to_string(dimensions, '|') FROM causes WHERE kpi = 'revenue' AND versus = 'previous' AND finding IN ('where', 'emerging')"
        )
        looked_at = 0
        for segment, dimensions in self.rows(folder, nights[1], query):
            named = dict(one.split("=", 1) for one in dimensions.split("|"))
            if not set(named) <= set(DIMENSIONS):
                continue
            if segment:
                named["segment"] = segment
            looked_at += 1
            self.of_many(cells, named, {}, k)
            for left_out in named.keys() - ({"segment"} if segment else set()):
                rest = {name: value for name, value in named.items() if name != left_out}
                self.of_many(cells, rest, {left_out: named[left_out]}, k)
        return "what is named is of many" if looked_at else "nothing is named"

    def of_many(self, cells, conditions, without, k):
        sums = [{}, {}]
        for night, found in enumerate(cells):
            for who, where, amount in found:
                here = all(where[name] == value for name, value in conditions.items())
                if here and not (without and all(where[name] == value for name, value in without.items())):
                    sums[night][who] = sums[night].get(who, 0) + amount
        before, after = ({who for who, amount in sum.items() if amount} for sum in sums)
        otherwise = {who for who in before | after if sums[0].get(who, 0) != sums[1].get(who, 0)}
        for what, people in (("before", before), ("after", after), ("otherwise", otherwise)):
            if 0 < len(people) < k:
                raise Broken(f"k {k}: {conditions} without {without} is of {len(people)} people {what}")

    def cells(self, folder, as_of):
        """What everybody spent in the window, by segment, channel and category."""
        night = datetime.datetime.fromisoformat(as_of).replace(tzinfo=self.zone)
        first = (datetime.datetime.fromisoformat(as_of) - datetime.timedelta(days=90)).replace(tzinfo=self.zone)
        query = (
            "SELECT a.customer_key, s.segment_id, lower(trim(t.channel)), t.category, CAST(t.ordered_at AS VARCHAR), "
            "CAST(CAST(t.amount AS DECIMAL(38, 6)) * 1000000 AS BIGINT) FROM clean_transactions AS t "
            "JOIN accounts AS a ON a.account_key = t.account_key JOIN segments AS s ON s.customer_key = a.customer_key"
        )
        found = []
        for who, segment, channel, category, at, amount in self.rows(folder, as_of, query):
            if first <= instant(at) < night:
                found.append((who, {"segment": segment, "channel": channel, "category": category}, int(amount)))
        return found

    def take_out(self, r, folder, column, keep, nights):
        """Of one value of a column, most rows between the nights."""
        gone = None
        for name in sorted(os.listdir(folder)):
            with open(f"{folder}/{name}", newline="") as file:
                header, *rows = csv.reader(file)
            at, when = header.index(column), header.index("order_ts")
            values = sorted({row[at] for row in rows if len(row) > at and row[at].strip()})
            gone = gone or (r.choice(values) if values else None)
            kept = [row for row in rows if not (len(row) > max(at, when) and row[at] == gone and nights[0] <= row[when][:10] < nights[1] and r.random() >= keep)]
            with open(f"{folder}/{name}", "w", newline="") as file:
                csv.writer(file).writerows([header, *kept])
