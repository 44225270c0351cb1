"""run.py [--tessera PATH] [--seed N] [--out DIR] [--baselines-only]: plants causes (cases.py), has `tessera causes locate` and four
published methods (baselines.py) look for them, and prints tables in Markdown.

A finding is right if it names the same columns with the same values as a planted cause. Precision, recall and F1 are over all findings and
all causes of the cases together; `first` is the share of cases whose first finding is one of the planted causes. Seconds a case are those
of a process that reads files, of ours; of the baselines, those of numpy with the table in memory.

run.py --tune [METHOD...] [--seed N]: looks for the settings of the baselines that have the highest F1 (TUNED in baselines.py) on the cases
of a seed, which is another one than that of the published run: every combination on a quarter of the planted cases, and the best ten of
these on all."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import baselines
import cases
from cases import Case

TUNING_SEED = 1
PUBLISHED_SEED = 20_261_201
CACHE = Path(os.environ.get("BENCH_DIR", Path.home() / ".cache/tessera-bench"))
OURS = "Tessera"
BATCH = 100
FIRST_ROUND = 24
SECOND_ROUND = 10

Name = frozenset[tuple[str, str]]
Keep = Callable[[int], bool]


@dataclass
class Findings:
    """What a method found in each case, in its order, and how long all of them took."""

    method: str
    found: list[list[Name]]
    seconds: float


def name_of(pattern: dict[str, str]) -> Name:
    return frozenset(pattern.items())


def causes_of(case: Case) -> list[Name]:
    return [name_of(cases.named(cause)) for cause in case.causes]


def by_baseline(method: str, drawn: list[Case], settings: baselines.Settings | None = None) -> Findings:
    """With these settings, or with those that it was tuned to."""
    locate, found, began = baselines.METHODS[method], [], time.perf_counter()
    with np.errstate(all="raise", under="ignore"):
        for case in drawn:
            patterns = locate(case.dims, case.before, case.after, case.before_of, case.after_of, settings=settings)
            found.append([name_of(cases.named(pattern)) for pattern in patterns])
    return Findings(method, found, time.perf_counter() - began)


def by_ours(tessera: str, files: list[Path]) -> Findings:
    found: dict[str, list[Name]] = {}
    began = time.perf_counter()
    for start in range(0, len(files), BATCH):
        names = [str(file) for file in files[start : start + BATCH]]
        command = [tessera, "causes", "locate", *names, "--json", "--before", "before", "--after", "after"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{tessera} causes locate failed with {done.returncode}: {done.stderr}")
        for line in done.stdout.splitlines():
            document = json.loads(line)
            found[Path(document["file"]).name] = [name_of(finding["dimensions"]) for finding in document["findings"]]
    seconds = time.perf_counter() - began
    if missing := [file.name for file in files if file.name not in found]:
        sys.exit(f"{tessera} causes locate says nothing of {len(missing)} files: {missing[:3]}")
    return Findings(OURS, [found[file.name] for file in files], seconds)


@dataclass
class Score:
    cases: int
    precision: float
    recall: float
    f1: float
    first: float


def score(drawn: list[Case], findings: Findings, keep: Keep) -> Score:
    count = right = named = planted = first = 0
    for i, (case, found) in enumerate(zip(drawn, findings.found)):
        if case.causes and keep(i):
            truth = set(causes_of(case))
            count, named, planted = count + 1, named + len(set(found)), planted + len(truth)
            right += len(truth & set(found))
            first += bool(found) and found[0] in truth
    return Score(count, share(right, named), share(right, planted), share(2 * right, named + planted), share(first, count))


def share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def table(head: list[str], rows: list[list[str]]) -> str:
    rule = ["---"] + ["--:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows]) + "\n"


def four(result: Score) -> list[str]:
    return [f"{value:.3f}" for value in (result.precision, result.recall, result.f1, result.first)]


def noise_table(drawn: list[Case], all_findings: list[Findings]) -> str:
    rows = []
    for noise in [*cases.NOISES, None]:
        for findings in all_findings:
            result = score(drawn, findings, lambda i: noise is None or drawn[i].noise == noise)
            level = "all" if noise is None else f"{noise:.0%}"
            rows.append([f"{level}, {result.cases} cases", findings.method, *four(result)])
    return table(["noise", "method", "precision", "recall", "F1", "first"], rows)


def volume(case: Case) -> float:
    """Counts a leaf; of a ratio, of its numerators."""
    return float(case.before.mean())


def groups(drawn: list[Case]) -> dict[str, Keep]:
    counted = sorted(volume(case) for case in drawn if case.causes and case.unit != "money")
    third, two_thirds = (counted[len(counted) * k // 3] for k in (1, 2)) if counted else (0.0, 0.0)
    return {
        "additive": lambda i: drawn[i].kind == "additive",
        "ratio": lambda i: drawn[i].kind == "ratio",
        "1 dimension": lambda i: len(drawn[i].causes[0]) == 1,
        "2 dimensions": lambda i: len(drawn[i].causes[0]) == 2,
        "3 dimensions": lambda i: len(drawn[i].causes[0]) == 3,
        "1 cause": lambda i: len(drawn[i].causes) == 1,
        "2 causes": lambda i: len(drawn[i].causes) == 2,
        "2 causes in one cuboid": lambda i: len(drawn[i].causes) == 2 and drawn[i].causes[0].keys() == drawn[i].causes[1].keys(),
        "2 causes in two cuboids": lambda i: len(drawn[i].causes) == 2 and drawn[i].causes[0].keys() != drawn[i].causes[1].keys(),
        "gain": lambda i: drawn[i].changes[0] > 0,
        "loss": lambda i: drawn[i].changes[0] < 0,
        "drift": lambda i: drawn[i].drift != 1.0,
        "no drift": lambda i: drawn[i].drift == 1.0,
        f"below {third:,.0f} counts a leaf": lambda i: drawn[i].unit != "money" and volume(drawn[i]) < third,
        f"from {two_thirds:,.0f} counts a leaf": lambda i: drawn[i].unit != "money" and volume(drawn[i]) >= two_thirds,
        "1 % noise, additive, 1 cause": lambda i: (drawn[i].noise, drawn[i].kind, len(drawn[i].causes)) == (0.01, "additive", 1),
    }


def breakdown(drawn: list[Case], all_findings: list[Findings]) -> str:
    rows = []
    for group, keep in groups(drawn).items():
        results = [score(drawn, findings, keep) for findings in all_findings]
        rows.append([f"{group} ({results[0].cases})", *(f"{result.f1:.3f} / {result.first:.3f}" for result in results)])
    return table(["F1 / first", *(findings.method for findings in all_findings)], rows)


def nothing_table(drawn: list[Case], all_findings: list[Findings]) -> str:
    rows = []
    for findings in all_findings:
        named = [len(found) for case, found in zip(drawn, findings.found) if not case.causes]
        figures = [f"{share(np.count_nonzero(named), len(named)):.3f}", f"{share(sum(named), len(named)):.2f}"]
        rows.append([findings.method, str(len(named)), *figures, f"{findings.seconds / len(drawn):.4f}"])
    return table(["method", "cases without a cause", "a cause is named", "findings a case", "seconds a case"], rows)


def published_table(drawn: list[Case]) -> str:
    rows = []
    for method, settings in baselines.PUBLISHED.items():
        findings = by_baseline(method, drawn, settings)
        named = [bool(found) for case, found in zip(drawn, findings.found) if not case.causes]
        rows.append([method, *four(score(drawn, findings, lambda i: True)), f"{share(sum(named), len(named)):.3f}"])
    return table(["settings of the papers", "precision", "recall", "F1", "first", "a cause is named where there is none"], rows)


def best_settings(method: str, drawn: list[Case], ratio: bool) -> tuple[float, baselines.Settings]:
    of_kind = [case for case in drawn if (case.kind == "ratio") == ratio]
    few = [case for case in of_kind if int(case.name[-3:]) < FIRST_ROUND]

    def f1(among: list[Case], settings: baselines.Settings) -> float:
        return score(among, by_baseline(method, among, settings), lambda i: True).f1

    tried = sorted(baselines.grid_of(method, ratio), key=lambda settings: -f1(few, settings))
    return max(((f1(of_kind, settings), settings) for settings in tried[:SECOND_ROUND]), key=lambda pair: pair[0])


def tune(seed: int, methods: list[str]) -> None:
    drawn = cases.draw_cases(seed, unplanted=0)
    for method in methods:
        for ratio in (False, True):
            f1, settings = best_settings(method, drawn, ratio)
            print(f"{method}, {'ratio' if ratio else 'additive'}: F1 {f1:.3f} with {settings}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tessera", default="target/release/tessera", help="the command")
    parser.add_argument("--seed", type=int, help=f"of the cases: {PUBLISHED_SEED}, and {TUNING_SEED} with --tune, unless told")
    parser.add_argument("--out", type=Path, default=CACHE / "causes", help="where the cases are written")
    parser.add_argument("--baselines-only", action="store_true")
    parser.add_argument("--tune", nargs="*", metavar="METHOD", help="look for settings of these baselines, or of all")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    if chosen.tune is not None:
        tune(chosen.seed or TUNING_SEED, chosen.tune or list(baselines.METHODS))
        return
    seed = chosen.seed or PUBLISHED_SEED
    drawn = cases.draw_cases(seed)
    files = cases.write_cases(drawn, seed, chosen.out)
    all_findings = [] if chosen.baselines_only else [by_ours(chosen.tessera, files)]
    all_findings += [by_baseline(method, drawn) for method in baselines.METHODS]
    print(f"Seed {seed}, {len(drawn)} cases in {chosen.out}\n")
    for told in (noise_table, breakdown, nothing_table):
        print(told(drawn, all_findings))
    print(published_table(drawn))
    print("The baselines explain a change that somebody found before; none of their papers tests whether there is one.")


if __name__ == "__main__":
    main()
