"""Published changes of KPIs, and what they give away together with the KPIs of both nights. What customers add who were in one segment and
are in another is an unknown, for each sum and night; whatever is told is an equation. No sum of few people, nor what it changed by, follows."""

import datetime
import os
import shutil

import numpy

from figures import NOBODYS, ONE, Basis, Figures
from sources import PROJECT
from trials import Broken

TERMS = ("restated", "identity", "new", "left", "moved_in", "moved_out", "behaviour")


class Changes(Figures):
    def attack(self, r, folder):
        os.symlink(f"{self.folder}/data", f"{folder}/data")
        shutil.copy(f"{self.folder}/{PROJECT}", folder)
        k, segments = r.randrange(2, 9), r.randrange(2, 5)
        first = datetime.date(2025, r.randrange(3, 13), r.randrange(1, 29))
        nights = [str(first), str(first + datetime.timedelta(days=r.choice([1, 2, 7, 30, 90])))]
        for as_of in nights:
            ended = self.night(folder, as_of, "--set", f"privacy.k={k}", "--set", f"segmentation.k={segments}")
            if ended.code:
                return f"ends with {ended.code}"
        values = [self.values(folder, as_of) for as_of in nights]
        accounts = [dict(self.rows(folder, as_of, "SELECT account_key, customer_key FROM accounts")) for as_of in nights]
        other = {
            key for account in accounts[0].keys() & accounts[1].keys() if accounts[0][account] != accounts[1][account]
            for key in (accounts[0][account], accounts[1][account])
        }
        query = "SELECT customer_key, cause FROM segment_moves WHERE from_segment_id IS NOT NULL AND to_segment_id IS NOT NULL"
        causes = dict(self.rows(folder, nights[1], query))

        # Of everybody, where they were and are and why, with their values on either night.
        sums = sorted({one for x, y, n in self.kpis.values() for one in (x, y, n)})
        places = [self.sums.index(one) for one in sums]
        flows = {}
        for key in sorted({key for night in values for key in night}):
            was, then = values[0].get(key, (None, [0] * len(self.sums)))
            now, after = values[1].get(key, (None, [0] * len(self.sums)))
            why = "identity" if key in other else causes.get(key, "")
            of = flows.setdefault((was, now, why), [])
            of.append(([then[at] for at in places], [after[at] for at in places]))
        names = sorted(flows, key=str)
        at = {name: i for i, name in enumerate(names)}
        width = len(names) * len(sums) * 2
        basis = Basis(width)

        def place(flow, one, night):
            return (at[flow] * len(sums) + sums.index(one)) * 2 + night

        def equation(one, terms):
            row = numpy.zeros(width, dtype=numpy.int64)
            for flow, night, factor in terms:
                row[place(flow, one, night)] += factor
            return row

        def counts(group, wide):
            return group is not None and (wide or group != NOBODYS)

        def known(group, wide):
            return group if counts(group, wide) else None

        # What everybody knows: who was not there added nothing, and who is not a customer adds nothing to what is of customers.
        for flow in names:
            for one in sums:
                wide = any(one in self.kpis[name] for name in self.wide)
                for night in (0, 1):
                    if not counts(flow[night], wide):
                        basis.add(equation(one, [(flow, night, 1)]))
        for night, as_of in enumerate(nights):
            query = "SELECT segment_id, kpi, numerator, denominator, n FROM kpis WHERE state <> 'not_available'"
            for segment, kpi, *told in self.rows(folder, as_of, query):
                wide = kpi in self.wide
                within = [f for f in names if counts(f[night], wide) and (not segment or f[night] == int(segment))]
                for one, figure in zip(self.kpis[kpi], told):
                    if figure:
                        basis.add(equation(one, [(flow, night, 1) for flow in within]))
        cells, told = {}, {}
        for name in self.kpis:
            for one in dict.fromkeys(self.kpis[name][:2]):
                wide = name in self.wide
                for flow in names:
                    was, now = known(flow[0], wide), known(flow[1], wide)
                    for row, term, terms in list(parts(flow, was, now)):
                        cells.setdefault((name, one, row, term, flow[2] if term.startswith("moved") else ""), []).extend(
                            (flow, night, factor) for night, factor in terms
                        )
        query = "SELECT segment_id, kpi, term, detail, numerator, denominator FROM kpi_changes WHERE split = 'people' AND versus = 'previous'"
        rows = self.rows(folder, nights[1], query)
        for segment, kpi, term, detail, x, y in rows:
            told.setdefault((kpi, segment), []).append((term, detail, x, y))
        followed = 0
        for (kpi, segment), terms in told.items():
            row = int(segment) if segment else None
            mine = {key: cell for key, cell in cells.items() if key[0] == kpi and key[2] == row}
            for at_sum, one in enumerate(self.kpis[kpi][:2]):
                ours = {key[3:]: cell for key, cell in mine.items() if key[1] == one}
                shown, sums_told = set(), {}
                for term, detail, *figures in terms:
                    if not figures[at_sum]:
                        continue
                    key = (term, detail if term.startswith("moved") else "")
                    sums_told[key] = sums_told.get(key, 0) + round(float(figures[at_sum]) * ONE)
                    if term != "withheld":
                        shown.add(key)
                for key in shown:
                    if key not in ours:
                        raise Broken(f"{kpi} of {segment}: no such term {key}")
                    is_sum = sum(factor * sum(v[night][sums.index(one)] for v in flows[flow]) for flow, night, factor in ours[key])
                    if abs(is_sum - sums_told[key]) > 1:
                        raise Broken(f"{kpi} of {segment or 'all'}, {key}: told {sums_told[key]}, is {is_sum}")
                    basis.add(equation(one, ours[key]))
                    followed += 1
                if any(term == "withheld" for term, *_ in terms):
                    basis.add(equation(one, [part for key, cell in ours.items() if key not in shown for part in cell]))
        hidden = width - len(basis.pivots)

        def few(one, terms, what):
            if not terms:
                return
            n = 0
            for flow in {flow for flow, _, _ in terms}:
                mine = [(night, factor) for f, night, factor in terms if f == flow]
                n += sum(sum(factor * v[night][sums.index(one)] for night, factor in mine) != 0 for v in flows[flow])
            if 0 < n < k and basis.spans(equation(one, terms)):
                raise Broken(f"k {k}, {segments} segments, nights {nights}: {one}, {what} follows, of {n} people")

        # That somebody came, left or moved, the number of rows tells.
        def counts_everybody(one):
            place = self.sums.index(one)
            return all(v[place] == ONE for night in values for segment, v in night.values() if segment != NOBODYS)

        secret = [one for one in sums if not counts_everybody(one)]
        for one in secret:
            for flow in names:
                few(one, [(flow, 0, 1)], f"what {flow} added on the first night")
                few(one, [(flow, 1, 1)], f"what {flow} added on the second night")
                few(one, [(flow, 0, -1), (flow, 1, 1)], f"the change of {flow}")
        for (name, one, row, term, cause), terms in cells.items():
            if one in secret:
                few(one, terms, f"{term} {cause} of segment {row} in {name}")
        return "nothing of few follows" if hidden and followed else "nothing of few follows, nothing was told"


def parts(flow, was, now):
    """The terms of which segments a flow adds to, and how."""
    if flow[2] == "identity":
        if was is not None and was == now:
            yield was, "identity", [(0, -1), (1, 1)]
        else:
            if was is not None:
                yield was, "identity", [(0, -1)]
            if now is not None:
                yield now, "identity", [(1, 1)]
        if was is not None or now is not None:
            yield None, "identity", ([(0, -1)] if was is not None else []) + ([(1, 1)] if now is not None else [])
    elif was is None and now is not None:
        for row in (now, None):
            yield row, "new", [(1, 1), (0, -1)]
    elif now is None and was is not None:
        for row in (was, None):
            yield row, "left", [(0, -1)]
    elif was is not None and now is not None:
        if was != now:
            yield was, "moved_out", [(0, -1)]
            yield now, "moved_in", [(0, 1)]
        for row in (now, None):
            yield row, "behaviour", [(0, -1), (1, 1)]
