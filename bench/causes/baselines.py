"""baselines.py: four published ways to find the combinations of values in which a KPI changed, written from their papers.

Adtributor     Bhagwan et al., "Adtributor: Revenue Debugging in Advertising Systems", NSDI 2014
R-Adtributor   Persson and Rudenius, "Anomaly Detection and Fault Localization" (master's thesis, Chalmers), 2018
Squeeze        Li et al., "Generic and Robust Localization of Multi-Dimensional Root Causes", ISSRE 2019
RiskLoc        Kalander, "RiskLoc: Localization of Multi-dimensional Root Causes by Weighted Risk", arXiv:2205.10004, 2022

Each takes codes of dimensions and the values of two nights and returns patterns {dimension: code}, the best first. What the papers leave
open (knee, histogram, ties) is as in what their authors published: github.com/NetManAIOps/Squeeze and
github.com/shaido987/riskloc.

Settings are the papers' (`PUBLISHED`) or those that were best on the cases of the tuning seed, of additive KPIs and of ratios by themselves
(`TUNED`; `run.py --tune` looks for them in `GRIDS`). Two settings are of this comparison:
  drift    the night before is the forecast as it is ("none"), times the ratio of the totals ("total"), or times the median ratio of the
           leaves, each weighing what it was before ("median"). Adtributor divides by the change of the total, so that it has no "total".
  derived  of a ratio: the paper's own treatment of derived measures ("paper"); the rates of the leaves as if these were additive, as in the
           published code of RiskLoc and the first one of Squeeze ("rates"); or the numerators that the rates of the night before make of
           the denominators of the night after, as the forecast of an additive KPI ("counts")."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

Pattern = dict[int, int]
Dims = list[np.ndarray]


@dataclass(frozen=True)
class AdtributorSettings:
    """TEP, TEEP and k: 67 %, 10 % and 3 in the paper's evaluation."""

    tep: float = 0.67
    teep: float = 0.1
    k: int = 3
    drift: str = "median"
    derived: str = "paper"


@dataclass(frozen=True)
class RAdtributorSettings:
    """TEEP and k: 20 % and 3 as in the comparison of the RiskLoc paper."""

    teep: float = 0.2
    k: int = 3
    drift: str = "median"
    derived: str = "paper"


@dataclass(frozen=True)
class SqueezeSettings:
    """delta = 0.9 is the paper's. Of the authors' code: deviations (f-v)/(f+v) below 0.2 are normal, a cluster has at most 12 elements."""

    ps_upper: float = 0.9
    normal: float = 0.2
    elements: int = 12
    drift: str = "median"
    derived: str = "paper"


@dataclass(frozen=True)
class RiskLocSettings:
    """Thresholds of risk and explanatory power are the paper's, as are 5 extreme leaves that the cutoff leaves out (below 1: a share)."""

    risk: float = 0.5
    ep: float = 0.02
    remove: float = 5
    drift: str = "median"
    derived: str = "paper"


Settings = AdtributorSettings | RAdtributorSettings | SqueezeSettings | RiskLocSettings


@dataclass(frozen=True)
class Measure:
    """Forecast and actual of every leaf; of a derived measure these are rates, and `parts` are the four columns that they are made of."""

    dims: Dims
    forecast: np.ndarray
    actual: np.ndarray
    parts: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None


def common_factor(old: np.ndarray, new: np.ndarray, drift: str) -> float:
    """What all leaves have in common between two nights, of what was expected on the one and what came on the other."""
    if drift == "none" or old.sum() <= 0 or new.sum() <= 0:
        return 1.0
    if drift == "total":
        return float(new.sum() / old.sum())
    known = old > 0
    ratios, weights = new[known] / old[known], old[known]
    order = np.argsort(ratios, kind="stable")
    middle = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
    return float(ratios[order][middle]) or 1.0


def measure(
    dims: Dims, before: np.ndarray, after: np.ndarray, before_of: np.ndarray | None, after_of: np.ndarray | None, settings: Settings
) -> Measure:
    if before_of is None or after_of is None:
        return Measure(dims, before * common_factor(before, after, settings.drift), after, None)
    both = (before_of > 0) & (after_of > 0)
    dims, before, after, before_of, after_of = [d[both] for d in dims], before[both], after[both], before_of[both], after_of[both]
    counts = before / before_of * after_of
    factor = common_factor(counts, after, settings.drift)
    if settings.derived == "counts":
        return Measure(dims, counts * factor, after, None)
    parts = (before * factor, after, before_of, after_of) if settings.derived == "paper" else None
    return Measure(dims, before / before_of * factor, after / after_of, parts)


def cells(dims: Dims, cuboid: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """The cell of every leaf in a cuboid, and how many there may be."""
    code, count = np.zeros(len(dims[0]), dtype=np.int64), 1
    for d in cuboid:
        cardinality = int(dims[d].max()) + 1
        code, count = code * cardinality + dims[d], count * cardinality
    return code, count


def pattern_of(dims: Dims, cuboid: tuple[int, ...], leaf: int) -> Pattern:
    return {d: int(dims[d][leaf]) for d in cuboid}


def cuboids(dimensions: int, layer: int) -> itertools.combinations:
    return itertools.combinations(range(dimensions), layer)


def distinct(patterns: list[Pattern]) -> list[Pattern]:
    return [dict(items) for items in dict.fromkeys(tuple(sorted(pattern.items())) for pattern in patterns)]


# Adtributor and R-Adtributor


def divergence(forecast: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """The surprise of every element: its part of the Jensen-Shannon divergence of the shares."""
    if forecast.sum() <= 0 or actual.sum() <= 0:
        return np.zeros(len(forecast))
    p, q = forecast / forecast.sum(), actual / actual.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        of_p = np.where(p > 0, p * np.log(2 * p / (p + q)), 0.0)
        of_q = np.where(q > 0, q * np.log(2 * q / (p + q)), 0.0)
    return 0.5 * (of_p + of_q)


def derived_power(forecast: np.ndarray, actual: np.ndarray, forecast_of: np.ndarray, actual_of: np.ndarray) -> np.ndarray:
    """What each element adds to the change of a ratio, by partial derivatives in finite differences; not scaled to add up to 1."""
    total, total_of = forecast.sum(), forecast_of.sum()
    numerator = (actual - forecast) * total_of - (actual_of - forecast_of) * total
    return numerator / (total_of * (total_of + actual_of - forecast_of))


def explained(m: Measure, rows: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of a dimension among these leaves, with their explanatory power (of derived measures the paper's section 3.4) and surprise."""
    codes = m.dims[d][rows]
    values = np.flatnonzero(np.bincount(codes))

    def by_value(column: np.ndarray) -> np.ndarray:
        return np.bincount(codes, column[rows])[values]

    if m.parts is None:
        forecast, actual = by_value(m.forecast), by_value(m.actual)
        power, surprise = actual - forecast, divergence(forecast, actual)
    else:
        forecast, actual, forecast_of, actual_of = (by_value(part) for part in m.parts)
        power = derived_power(forecast, actual, forecast_of, actual_of)
        surprise = divergence(forecast, actual) + divergence(forecast_of, actual_of)
    whole = power.sum()
    return values, power / whole if whole else np.zeros(len(power)), surprise


def adtributor(
    dims: Dims, before: np.ndarray, after: np.ndarray, before_of: np.ndarray | None = None, after_of: np.ndarray | None = None,
    settings: AdtributorSettings | None = None,
) -> list[Pattern]:
    s = settings or TUNED["Adtributor"][before_of is not None]
    m = measure(dims, before, after, before_of, after_of, s)
    everything = np.ones(len(m.actual), dtype=bool)
    candidates = []
    for d in range(len(m.dims)):
        values, power, surprise = explained(m, everything, d)
        chosen = [i for i in np.argsort(-surprise, kind="stable") if power[i] > s.teep]
        reached = np.cumsum(power[chosen]) > s.tep
        if reached.any():
            chosen = chosen[: int(np.argmax(reached)) + 1]
            candidates.append((surprise[chosen].sum(), [{d: int(values[i])} for i in chosen]))
    candidates.sort(key=lambda candidate: -candidate[0])
    return [pattern for _, patterns in candidates[: s.k] for pattern in patterns]


def r_adtributor(
    dims: Dims, before: np.ndarray, after: np.ndarray, before_of: np.ndarray | None = None, after_of: np.ndarray | None = None,
    settings: RAdtributorSettings | None = None,
) -> list[Pattern]:
    s = settings or TUNED["R-Adtributor"][before_of is not None]
    m = measure(dims, before, after, before_of, after_of, s)
    known: dict[frozenset, list[Pattern]] = {}

    def explanatory_sets(rows: np.ndarray, above: Pattern) -> list[list[Pattern]]:
        sets = []
        for d in range(len(m.dims)):
            if d in above:
                continue
            values, power, surprise = explained(m, rows, d)
            chosen = [i for i in np.argsort(-surprise, kind="stable") if power[i] > s.teep]
            if 0 < len(chosen) < len(values):
                sets.append((surprise[chosen].sum(), [{**above, d: int(values[i])} for i in chosen]))
        sets.sort(key=lambda candidate: -candidate[0])
        return [patterns for _, patterns in sets[: s.k]]

    def search(rows: np.ndarray, above: Pattern) -> list[Pattern]:
        """The sets of this subcube, each replaced by the deeper ones of its elements if every element has such."""
        key = frozenset(above.items())
        if key not in known:
            found = []
            for patterns in explanatory_sets(rows, above):
                deeper = [search(rows & inside(m.dims, pattern), pattern) for pattern in patterns]
                found += itertools.chain(*deeper) if all(deeper) else patterns
            known[key] = distinct(found)
        return known[key]

    return search(np.ones(len(m.actual), dtype=bool), {})


def inside(dims: Dims, pattern: Pattern) -> np.ndarray:
    rows = np.ones(len(dims[0]), dtype=bool)
    for d, code in pattern.items():
        rows &= dims[d] == code
    return rows


# Squeeze


def knee(x: np.ndarray, y: np.ndarray) -> float:
    """The first knee of an increasing concave curve (Satopaa et al., Kneedle, 2011, with sensitivity 1)."""
    if x[-1] <= x[0] or y[-1] <= y[0]:
        return float(x[0])
    scaled = (x - x[0]) / (x[-1] - x[0])
    above = (y - y[0]) / (y[-1] - y[0]) - scaled
    peaks = 1 + np.flatnonzero((above[1:-1] > above[:-2]) & (above[1:-1] >= above[2:]))
    for peak, end in zip(peaks, [*peaks[1:], len(above)]):
        if (above[peak + 1 : end] < above[peak] - np.diff(scaled).mean()).any():
            return float(x[peak])
    return float(x[0])


def density(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A Gaussian kernel density with Scott's bandwidth, over points rounded to an even grid."""
    step = at[1] - at[0]
    width = max(points.std(ddof=1) * len(points) ** -0.2, 1e-12) / step
    reach = min(len(at) - 1, math.ceil(5 * width))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    counts = np.bincount(np.rint((points - at[0]) / step).astype(int), minlength=len(at)).astype(float)
    return np.convolve(counts, kernel / kernel.sum(), mode="full")[reach : reach + len(at)]


def large_deviations(forecast: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Leaves whose deviation is beyond the knee of the distribution of its logarithm."""
    size = np.log(np.abs(actual - forecast) + 1) / 10
    if size.max() <= size.min():
        return np.arange(len(size))
    at = np.linspace(size.min(), size.max(), 1000)
    return np.flatnonzero(size > knee(at, np.cumsum(density(size, at))))


def clusters_of(score: np.ndarray, normal: float) -> list[tuple[float, float]]:
    """From where to where the deviation scores of a cluster go: peaks of the histogram, cut at the valleys, that are not near nothing."""
    edges = np.histogram_bin_edges(score, "auto")
    margin = 0.1 * np.arange(1, 6)
    edges = np.concatenate([edges[0] - margin[::-1], edges, edges[-1] + margin])
    height, edges = np.histogram(score, bins=edges, density=True)
    centre = (edges[1:] + edges[:-1]) / 2
    window = max(np.count_nonzero(height) // 10, 1)
    height[window - 1 :] = np.convolve(height, np.ones(window) / window, mode="valid")
    left, right = np.roll(height, 1), np.roll(height, -1)
    peaks = np.flatnonzero((height > left) & (height >= right) & (height > 0))
    valleys = np.flatnonzero((height <= left) & (height <= right))
    found = []
    for peak in peaks:
        low = centre[valleys[valleys < peak].max()] if (valleys < peak).any() else -np.inf
        high = centre[valleys[valleys > peak].min()] if (valleys > peak).any() else np.inf
        members = score[(score >= low) & (score <= high)]
        if len(members) and np.abs(members).mean() >= normal:
            found.append((float(members.min()), float(members.max())))
    return found


@dataclass(frozen=True)
class Located:
    patterns: list[Pattern]
    score: float
    rank: float


def generalised_potential(m: Measure, inner: np.ndarray, outer: np.ndarray) -> float:
    """By how much better the leaves are explained if the inner ones follow one factor: GPS of the paper's section IV."""
    v1, f1, v2, f2 = m.actual[inner], m.forecast[inner], m.actual[outer], m.forecast[outer]
    if m.parts is None:
        expected, actual = f1.sum(), v1.sum()
    else:
        forecast_a, actual_a, forecast_b, actual_b = (part[inner].sum() for part in m.parts)
        expected, actual = forecast_a / forecast_b, actual_a / actual_b
    rest = np.abs(v2 - f2).mean() if len(v2) else 0.0
    unexplained = np.abs(v1 - f1).mean() + rest
    return 1 - (np.abs(v1 - f1 * actual / expected).mean() + rest) / unexplained if expected > 0 and unexplained > 0 else -np.inf


def locate_in_cuboid(
    m: Measure, cuboid: tuple[int, ...], cluster: np.ndarray, others: np.ndarray, weight: float, most: int
) -> Located | None:
    """The elements of a cuboid in which most leaves are of the cluster, as many of them as have the highest potential score."""
    code, count = cells(m.dims, cuboid)
    within, everywhere = np.bincount(code[cluster], minlength=count), np.bincount(code, minlength=count)
    elements = np.flatnonzero(within)
    elements = elements[np.argsort(-within[elements] / everywhere[elements], kind="stable")]
    most = min(len(elements), most, np.count_nonzero(everywhere) - 1)
    if most < 1:
        return None
    place = np.full(count, len(elements))
    place[elements] = np.arange(len(elements))
    looked_at = np.concatenate([cluster, others])
    place_of = place[code[looked_at]]
    scores = [generalised_potential(m, looked_at[place_of < k], looked_at[place_of >= k]) for k in range(1, most + 1)]
    best = int(np.argmax(scores)) + 1
    leaf = np.zeros(count, dtype=np.int64)
    leaf[code[cluster]] = cluster
    patterns = [pattern_of(m.dims, cuboid, leaf[element]) for element in elements[:best]]
    return Located(patterns, scores[best - 1], scores[best - 1] * weight - best * len(cuboid))


def locate_cluster(m: Measure, cluster: np.ndarray, others: np.ndarray, weight: float, s: SqueezeSettings) -> list[Pattern]:
    located: list[Located] = []
    for layer in range(1, len(m.dims) + 1):
        for cuboid in cuboids(len(m.dims), layer):
            found = locate_in_cuboid(m, cuboid, cluster, others, weight, s.elements)
            located += [found] if found else []
        if any(found.score > s.ps_upper for found in located):
            break
    return max(located, key=lambda found: found.rank).patterns if located else []


def squeeze(
    dims: Dims, before: np.ndarray, after: np.ndarray, before_of: np.ndarray | None = None, after_of: np.ndarray | None = None,
    settings: SqueezeSettings | None = None,
) -> list[Pattern]:
    s = settings or TUNED["Squeeze"][before_of is not None]
    m = measure(dims, before, after, before_of, after_of, s)
    known = m.forecast > 0
    parts = tuple(part[known] for part in m.parts) if m.parts else None
    m = Measure([d[known] for d in m.dims], m.forecast[known], m.actual[known], parts)
    score = (m.forecast - m.actual) / (m.forecast + m.actual)
    large = large_deviations(m.forecast, m.actual)
    if not len(large):
        return []
    clusters = [np.flatnonzero((score >= low) & (score <= high)) for low, high in clusters_of(score[large], s.normal)]
    if not clusters:
        return []
    others = np.flatnonzero(np.abs(score) < min(np.abs(score[cluster]).min() for cluster in clusters))
    values = sum(len(np.unique(d)) for d in m.dims)
    covered = sum(len(cluster) for cluster in clusters) / len(score)
    weight = math.log(len(clusters) + 1) / len(clusters) * values / math.log(values + 1) * -math.log(covered)
    clusters.sort(key=lambda cluster: -np.abs(m.forecast[cluster] - m.actual[cluster]).sum())
    return distinct([pattern for cluster in clusters for pattern in locate_cluster(m, cluster, others, weight, s)])


# RiskLoc


@dataclass(frozen=True)
class Risk:
    """Leaves as RiskLoc sees them: deviation scores, which are beyond the cutoff, weights, and the explanatory power of each."""

    m: Measure
    deviation: np.ndarray
    beyond: np.ndarray
    weight: np.ndarray
    power: np.ndarray


def assess(m: Measure, remove: float) -> Risk:
    whole = m.forecast + m.actual
    deviation = np.divide(2 * (m.forecast - m.actual), whole, out=np.zeros(len(whole)), where=whole > 0)
    ordered = np.unique(deviation)
    removed = min(int(remove if remove >= 1 else remove * len(ordered)), len(ordered) - 1)
    low, high = ordered[removed], ordered[-1 - removed]
    cutoff = -low if abs(low) <= abs(high) else -high
    right = not np.signbit(cutoff)
    beyond = deviation > cutoff if right else deviation < cutoff
    weight = np.where(beyond, np.abs(deviation), np.abs(cutoff - deviation))
    weight[(m.actual == 0) & (m.forecast == 0)] = 0.0
    # Not scaled to add up to 1: nothing depends on that.
    power = derived_power(*m.parts) if m.parts else m.actual - m.forecast
    return Risk(m, deviation, beyond, np.minimum(weight, 1.0), -power if power[beyond].sum() < 0 else power)


def risk_of(r: Risk, leaves: np.ndarray) -> float:
    """How much weight of an element is beyond the cutoff, less how badly one factor explains its leaves."""
    beyond, weight = r.beyond[leaves], r.weight[leaves]
    high = weight[beyond].sum() / (weight.sum() + 1)
    forecast, actual = r.m.forecast[leaves], r.m.actual[leaves]
    known = (forecast > 0) & (actual > 0)
    if not known.any():
        return high
    forecast, actual = forecast[known], actual[known]
    expected = forecast * actual.sum() / forecast.sum()
    within = np.abs(2 * (expected - actual) / (expected + actual)).mean()
    deviation = np.abs(r.deviation[leaves][known]).mean()
    return high - within / deviation if deviation > 0 else high


def riskiest(r: Risk, rows: np.ndarray, cuboid: tuple[int, ...], least_risk: float, least: float) -> tuple | None:
    """The element of a cuboid with the most explanatory power, above `least`, whose risk is high enough."""
    code, count = cells(r.m.dims, cuboid)
    power = np.bincount(code[rows], r.power[rows], count)
    candidates = np.flatnonzero((np.bincount(code[rows & r.beyond], minlength=count) > 0) & (power > least))
    for element in candidates[np.argsort(-power[candidates], kind="stable")]:
        leaves = np.flatnonzero(rows & (code == element))
        if risk_of(r, leaves) >= least_risk:
            return power[element], leaves, pattern_of(r.m.dims, cuboid, leaves[0])
    return None


def relevant(r: Risk, left: np.ndarray, d: int, threshold: float) -> np.ndarray:
    """Leaves of values that a cause may have: something of them is beyond the cutoff, and what is positive in them is enough."""
    codes, count = r.m.dims[d], int(r.m.dims[d].max()) + 1
    beyond = np.bincount(codes[left & r.beyond], minlength=count)
    positive = np.bincount(codes[left], np.maximum(r.power[left], 0.0), count)
    return ((beyond > 0) & (positive >= threshold))[codes]


def search_risk(r: Risk, left: np.ndarray, s: RiskLocSettings, threshold: float) -> tuple | None:
    kept = [relevant(r, left, d, threshold) for d in range(len(r.m.dims))]
    for layer in range(1, len(r.m.dims) + 1):
        best, least = None, threshold
        for cuboid in cuboids(len(r.m.dims), layer):
            rows = np.logical_and.reduce([left, *(kept[d] for d in cuboid)])
            found = riskiest(r, rows, cuboid, s.risk, least)
            if found:
                best, least = found, found[0]
        if best:
            return best
    return None


def riskloc(
    dims: Dims, before: np.ndarray, after: np.ndarray, before_of: np.ndarray | None = None, after_of: np.ndarray | None = None,
    settings: RiskLocSettings | None = None,
) -> list[Pattern]:
    s = settings or TUNED["RiskLoc"][before_of is not None]
    r = assess(measure(dims, before, after, before_of, after_of, s), s.remove)
    threshold = r.power[r.beyond].sum() * s.ep
    left, patterns = np.ones(len(r.power), dtype=bool), []
    while r.power[left & r.beyond].sum() >= threshold > 0:
        found = search_risk(r, left, s, threshold)
        if not found:
            break
        patterns.append(found[2])
        left &= ~inside(r.m.dims, found[2])
    return patterns


METHODS: dict[str, Callable[..., list[Pattern]]] = {
    "Adtributor": adtributor, "R-Adtributor": r_adtributor, "Squeeze": squeeze, "RiskLoc": riskloc,
}
PUBLISHED: dict[str, Settings] = {
    "Adtributor": AdtributorSettings(), "R-Adtributor": RAdtributorSettings(), "Squeeze": SqueezeSettings(), "RiskLoc": RiskLocSettings(),
}
DRIFTS = ["none", "total", "median"]
GRIDS: dict[str, dict[str, list]] = {
    "Adtributor": {"tep": [0.1, 0.4, 0.67], "teep": [0.05, 0.1, 0.2, 0.3, 0.5], "k": [1, 2, 3], "drift": ["none", "median"]},
    "R-Adtributor": {"teep": [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], "k": [1, 2, 3], "drift": ["none", "median"]},
    "Squeeze": {"ps_upper": [0.3, 0.5, 0.7, 0.9], "normal": [0.1, 0.15, 0.2, 0.3], "elements": [1, 2, 12], "drift": DRIFTS},
    "RiskLoc": {"risk": [0.1, 0.2, 0.3, 0.5], "ep": [0.02, 0.1, 0.2], "remove": [5, 0.1, 0.2, 0.3], "drift": DRIFTS},
}
TREATMENTS = {"Adtributor": ["paper", "counts"], "R-Adtributor": ["paper", "counts"]}
# Of additive KPIs, and of ratios; the best in GRIDS on the cases of seed 1.
TUNED: dict[str, tuple[Settings, Settings]] = {
    "Adtributor": (AdtributorSettings(tep=0.4, teep=0.2, k=1), AdtributorSettings(tep=0.1, teep=0.1, k=1, drift="none", derived="counts")),
    "R-Adtributor": (RAdtributorSettings(teep=0.7, k=1), RAdtributorSettings(teep=0.7, k=1)),
    "Squeeze": (
        SqueezeSettings(ps_upper=0.5, normal=0.15, drift="none"),
        SqueezeSettings(ps_upper=0.3, normal=0.2, elements=2, derived="counts"),
    ),
    "RiskLoc": (
        RiskLocSettings(risk=0.2, ep=0.1, remove=0.2, drift="none"),
        RiskLocSettings(risk=0.1, ep=0.1, remove=0.2, drift="none", derived="counts"),
    ),
}


def grid_of(name: str, ratio: bool) -> list[Settings]:
    grid = {**GRIDS[name], "derived": TREATMENTS.get(name, ["paper", "rates", "counts"]) if ratio else ["paper"]}
    return [replace(PUBLISHED[name], **dict(zip(grid, values))) for values in itertools.product(*grid.values())]
