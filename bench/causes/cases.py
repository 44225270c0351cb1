"""cases.py FOLDER [SEED]: tables of cells of two nights, in some of which causes are planted, as CSV files beside a truth.json.

A case is a table of leaves: one line per combination of the values of 3 to 5 dimensions, with what it added up to on the night before and
the night after. The KPI is additive (a count, or money) or a ratio (numerator and denominator of either night). Sizes are products of
weights of the values and of a weight of the leaf, all lognormal, with a mean of 100 to 50,000 counts a leaf (a leaf in the middle has a
seventh to a quarter of that; a denominator is what is counted of a ratio); 5 to 40 % of the combinations do not exist.

Without a cause all leaves move by one factor (`drift`, 1 in two thirds of the cases) but for noise: a relative Gaussian error of every leaf
on the night after (of a ratio: of its rate and of its denominator), and on both nights the noise of counting (Poisson; money has amounts
that differ besides; numerators of ratios are binomial). A planted cause is a conjunction of values of 1 to 3 dimensions, in which
everything is multiplied by a further factor, 0.1 to 0.85 or 1.15 to 1.9 (of a ratio: the rate is).

What cannot be told apart is not planted. A cause has at least 5 leaves and 1 to 35 % of the total; each condition less would select at
least 1.2 times as much, and each condition more would leave at least 15 % out. It stands out by at least 5 standard errors of the noise
that was put in; what does not is drawn anew, so that changes are larger where there is more noise. Two causes go the same way, have no leaf
in common, and are together at most 45 % of the total, and 60 % of what their common conditions select: otherwise one might as well say that
the rest changed."""

import csv
import itertools
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NOISES = [0.01, 0.05, 0.10, 0.20, 0.30]
PLANTED_PER_NOISE = 100
UNPLANTED_PER_NOISE = 80
COLUMNS = ["channel", "category", "region", "device", "tier"]
PREFIXES = "cprdt"
COMBINATIONS = list(itertools.product((1, 2, 3), (1, 2), ("additive", "ratio"), (1, -1)))
LEAVES = (150, 6000)
LEAST_LEAVES = 5
MEAN_SIZE = (100, 50_000)
SHARE = (0.01, 0.35)
LEAST_PARENT = 1.2
MOST_CHILD = 0.85
MOST_OF_ALL = 0.45
MOST_OF_COMMON = 0.6
LEAST_STANDARD_ERRORS = 5.0
CHANGE = (0.15, 0.9)
UNSEEN_CASES = 0.08
HIGHEST_RATE = 0.95

Pattern = dict[int, int]


@dataclass
class Leaves:
    """What the leaves add up to but for noise: of a ratio `size` is the denominator, otherwise the value, in units of `price`."""

    dims: list[np.ndarray]
    size: np.ndarray
    price: np.ndarray
    rate: np.ndarray | None

    def weight(self) -> np.ndarray:
        return self.size * self.price if self.rate is None else self.size * self.rate


@dataclass
class Plan:
    """What is to be planted: causes of `layer` dimensions; two of them in one cuboid or in two, of one change or of two."""

    layer: int
    count: int
    sign: int
    one_cuboid: bool
    one_change: bool


@dataclass
class Case:
    name: str
    kind: str
    unit: str
    noise: float
    drift: float
    dims: list[np.ndarray]
    before: np.ndarray
    after: np.ndarray
    before_of: np.ndarray | None
    after_of: np.ndarray | None
    causes: list[Pattern]
    changes: list[float]

    def truth(self) -> dict:
        return {
            "file": f"{self.name}.csv",
            "kind": self.kind,
            "unit": self.unit,
            "noise": self.noise,
            "drift": round(self.drift, 4),
            "leaves": len(self.before),
            "causes": [named(cause) for cause in self.causes],
            "changes": [round(change, 4) for change in self.changes],
        }


def named(pattern: Pattern) -> dict[str, str]:
    return {COLUMNS[d]: label(d, code) for d, code in sorted(pattern.items())}


def label(dimension: int, code: int) -> str:
    return f"{PREFIXES[dimension]}{code}"


def inside(dims: list[np.ndarray], pattern: Pattern) -> np.ndarray:
    rows = np.ones(len(dims[0]), dtype=bool)
    for d, code in pattern.items():
        rows &= dims[d] == code
    return rows


def draw_leaves(rng: np.random.Generator, dimensions: int, kind: str, unit: str) -> Leaves:
    while True:
        cardinalities = rng.integers(3, 16, size=dimensions)
        if LEAVES[0] <= np.prod(cardinalities) <= LEAVES[1]:
            break
    grid = [axis.ravel() for axis in np.indices(cardinalities)]
    exists = rng.random(len(grid[0])) < rng.uniform(0.6, 0.95)
    dims = [axis[exists] for axis in grid]
    count = len(dims[0])
    size = rng.lognormal(0.0, 0.8, count)
    for d, cardinality in enumerate(cardinalities):
        size *= rng.lognormal(0.0, 0.8, cardinality)[dims[d]]
    size *= math.exp(rng.uniform(*np.log(MEAN_SIZE))) * count / size.sum()
    price = rng.lognormal(3.0, 0.4, count) if unit == "money" else np.ones(count)
    rate = draw_rates(rng, dims, cardinalities) if kind == "ratio" else None
    return Leaves(dims, size, price, rate)


def draw_rates(rng: np.random.Generator, dims: list[np.ndarray], cardinalities: np.ndarray) -> np.ndarray:
    rate = math.exp(rng.uniform(math.log(0.03), math.log(0.3))) * rng.lognormal(0.0, 0.2, len(dims[0]))
    for d, cardinality in enumerate(cardinalities):
        rate *= rng.lognormal(0.0, 0.25, cardinality)[dims[d]]
    return np.clip(rate, 0.005, 0.45)


def standard_errors(leaves: Leaves, rows: np.ndarray, change: float, noise: float) -> float:
    """By how many standard errors of the noise a change of these leaves stands out."""
    weight = leaves.weight()[rows]
    of_leaf = (noise * weight * (1 + change)) ** 2
    of_counts = weight * (2 + change) * (leaves.price[rows] * 1.25 if leaves.rate is None else 1.0)
    return abs(change) * weight.sum() / math.sqrt((of_leaf + of_counts).sum())


def can_be_told(leaves: Leaves, pattern: Pattern) -> bool:
    rows, weight = inside(leaves.dims, pattern), leaves.weight()
    own = weight[rows].sum()
    if rows.sum() < LEAST_LEAVES or not SHARE[0] <= own / weight.sum() <= SHARE[1]:
        return False
    for d in range(len(leaves.dims)):
        if d in pattern:
            parent = {other: code for other, code in pattern.items() if other != d}
            if weight[inside(leaves.dims, parent)].sum() < LEAST_PARENT * own:
                return False
        elif np.bincount(leaves.dims[d][rows], weight[rows]).max() > MOST_CHILD * own:
            return False
    return True


def can_be_told_apart(leaves: Leaves, first: Pattern, second: Pattern) -> bool:
    one, two = inside(leaves.dims, first), inside(leaves.dims, second)
    if (one & two).any():
        return False
    common = {d: code for d, code in first.items() if second.get(d) == code}
    weight = leaves.weight()
    most = MOST_OF_COMMON * weight[inside(leaves.dims, common)].sum() if common else MOST_OF_ALL * weight.sum()
    return weight[one | two].sum() <= most


def draw_pattern(rng: np.random.Generator, leaves: Leaves, cuboid: list[int]) -> Pattern:
    return {d: int(rng.choice(np.unique(leaves.dims[d]))) for d in cuboid}


def other_cuboid(rng: np.random.Generator, first: Pattern, dimensions: int) -> list[int]:
    """Of as many dimensions as the first one's (of two, if that has one), one of them another, so that they can have no leaf in common."""
    cuboid = list(first)
    others = [d for d in range(dimensions) if d not in first]
    dropped = rng.choice(cuboid) if len(cuboid) > 1 else None
    return [*(d for d in cuboid if d != dropped), int(rng.choice(others))]


def draw_causes(rng: np.random.Generator, leaves: Leaves, plan: Plan, noise: float) -> tuple[list[Pattern], list[float]] | None:
    dimensions = len(leaves.dims)
    for _ in range(300):
        causes = [draw_pattern(rng, leaves, sorted(rng.choice(dimensions, plan.layer, replace=False).tolist()))]
        changes = [plan.sign * rng.uniform(*CHANGE)]
        if plan.count == 2:
            second = list(causes[0]) if plan.one_cuboid else other_cuboid(rng, causes[0], dimensions)
            causes.append(draw_pattern(rng, leaves, second))
            changes.append(changes[0] if plan.one_change else plan.sign * rng.uniform(*CHANGE))
        if (
            all(can_be_told(leaves, cause) for cause in causes)
            and (plan.count == 1 or can_be_told_apart(leaves, *causes))
            and all(standard_errors(leaves, inside(leaves.dims, cause), change, noise) >= LEAST_STANDARD_ERRORS
                    for cause, change in zip(causes, changes))
        ):
            return causes, changes
    return None


def jitter(rng: np.random.Generator, noise: float, count: int) -> np.ndarray:
    return np.maximum(0.0, 1.0 + noise * rng.standard_normal(count))


def amounts(rng: np.random.Generator, leaves: Leaves, mean: np.ndarray, unit: str) -> np.ndarray:
    """A Poisson number of amounts; of money, these have a coefficient of variation of a half."""
    number = rng.poisson(mean).astype(float)
    if unit == "count":
        return number
    spread = 0.5 * np.sqrt(number) * rng.standard_normal(len(mean))
    return np.round(np.maximum(0.0, number + spread) * leaves.price, 2)


def nights(rng: np.random.Generator, leaves: Leaves, factor: np.ndarray, noise: float, unit: str) -> list[np.ndarray]:
    """before and after, and of a ratio before_of and after_of."""
    count = len(leaves.size)
    if leaves.rate is None:
        return [amounts(rng, leaves, leaves.size, unit), amounts(rng, leaves, leaves.size * factor * jitter(rng, noise, count), unit)]
    before_of = rng.poisson(leaves.size)
    after_of = rng.poisson(leaves.size * jitter(rng, noise, count))
    before = rng.binomial(before_of, leaves.rate)
    after = rng.binomial(after_of, np.minimum(HIGHEST_RATE, leaves.rate * factor * jitter(rng, noise, count)))
    return [column.astype(float) for column in (before, after, before_of, after_of)]


def forget_before(rng: np.random.Generator, leaves: Leaves, causes: list[Pattern], before: np.ndarray) -> None:
    """In a few cases one in fifty of the smaller leaves outside of the causes was not there before."""
    if rng.random() >= UNSEEN_CASES:
        return
    outside = ~np.logical_or.reduce([inside(leaves.dims, cause) for cause in causes])
    small = np.flatnonzero(outside & (leaves.size < np.median(leaves.size)))
    before[rng.choice(small, max(1, len(small) // 50), replace=False)] = 0.0


def draw_case(rng: np.random.Generator, name: str, kind: str, noise: float, drifts: bool, plan: Plan | None) -> Case:
    unit = "share" if kind == "ratio" else str(rng.choice(["count", "money"]))
    drift = rng.uniform(0.9, 1.1) if drifts else 1.0
    while True:
        leaves = draw_leaves(rng, int(rng.integers(4 if plan and plan.layer == 3 else 3, 6)), kind, unit)
        drawn = draw_causes(rng, leaves, plan, noise) if plan else ([], [])
        if drawn:
            break
    causes, changes = drawn
    factor = np.full(len(leaves.size), drift)
    for cause, change in zip(causes, changes):
        factor[inside(leaves.dims, cause)] *= 1.0 + change
    columns = nights(rng, leaves, factor, noise, unit)
    if causes and kind == "additive":
        forget_before(rng, leaves, causes, columns[0])
    kept = np.logical_or.reduce([column > 0 for column in columns])
    before, after, *of = [column[kept] for column in columns]
    before_of, after_of = of or (None, None)
    return Case(name, kind, unit, noise, drift, [d[kept] for d in leaves.dims], before, after, before_of, after_of, causes, changes)


def draw_cases(seed: int, planted: int = PLANTED_PER_NOISE, unplanted: int = UNPLANTED_PER_NOISE) -> list[Case]:
    """Cases of all noise levels, planted ones first; every case has a generator of its own, so that it does not depend on the others."""
    cases = []
    for level, noise in enumerate(NOISES):
        drifts = np.random.Generator(np.random.PCG64([seed, 0, level])).permutation(planted) < planted // 3
        for i in range(planted):
            layer, count, kind, sign = COMBINATIONS[(i + 5 * level) % len(COMBINATIONS)]
            rng = np.random.Generator(np.random.PCG64([seed, 1, level, i]))
            plan = Plan(layer, count, sign, one_cuboid=bool(rng.random() < 0.5), one_change=bool(rng.random() < 0.5))
            cases.append(draw_case(rng, f"planted-{noise:.2f}-{i:03}", kind, noise, bool(drifts[i]), plan))
    for level, noise in enumerate(NOISES):
        drifts = np.random.Generator(np.random.PCG64([seed, 2, level])).permutation(unplanted) < unplanted // 3
        for i in range(unplanted):
            rng = np.random.Generator(np.random.PCG64([seed, 3, level, i]))
            cases.append(draw_case(rng, f"nothing-{noise:.2f}-{i:03}", ("additive", "ratio")[i % 2], noise, bool(drifts[i]), None))
    return cases


def number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def write_case(case: Case, folder: Path) -> Path:
    path = folder / f"{case.name}.csv"
    values = {"before": case.before, "before_of": case.before_of, "after": case.after, "after_of": case.after_of}
    values = {name: column for name, column in values.items() if column is not None}
    texts = [[label(d, code) for code in codes] for d, codes in enumerate(case.dims)]
    texts += [[number(value) for value in column] for column in values.values()]
    with path.open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*COLUMNS[: len(case.dims)], *values])
        writer.writerows(zip(*texts))
    return path


def write_cases(cases: list[Case], seed: int, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "truth.json").write_text(json.dumps({"seed": seed, "cases": [case.truth() for case in cases]}, indent=1) + "\n")
    return [write_case(case, folder) for case in cases]


if __name__ == "__main__":
    chosen = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    write_cases(draw_cases(chosen), chosen, Path(sys.argv[1]))
