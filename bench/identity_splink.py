"""The same accounts by Splink on DuckDB: python identity_splink.py CUSTOMERS TRUTH [THRESHOLD].

Settings after Splink's own guide for people: its name, date and e-mail comparisons, term frequencies, blocking rules of its examples, u by random
pairs, m by two passes of expectation maximisation; then connected components. Prints JSON."""
import json
import pathlib
import resource
import sys
import time

import duckdb
import splink.comparison_library as cl
from splink import DuckDBAPI, Linker, SettingsCreator, block_on


def main(customers, truth, threshold=0.99):
    started = time.time()
    con = duckdb.connect()
    source = f"read_parquet('{customers}/*.parquet')" if pathlib.Path(customers).is_dir() else f"read_csv('{customers}', all_varchar = true)"
    names = {name for name, *_ in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    text = lambda name: f"nullif(lower(trim(CAST({name} AS VARCHAR))), '')" if name in names else "CAST(NULL AS VARCHAR)"
    wanted = ["first_name", "last_name", "birth_date", "city", "postal_code", "address", "email", "phone", "national_id"]
    con.execute(f"CREATE TABLE people AS SELECT customer_id AS unique_id, {', '.join(f'{text(name)} AS {name}' for name in wanted)} FROM {source}")
    has = {name: con.execute(f"SELECT count({name}) FROM people").fetchall()[0][0] > 0 for name in wanted}
    api = DuckDBAPI(con)
    comparisons = [
        cl.NameComparison("first_name").configure(term_frequency_adjustments=True),
        cl.NameComparison("last_name").configure(term_frequency_adjustments=True),
        cl.DateOfBirthComparison("birth_date", input_is_string=True),
        cl.ExactMatch("postal_code").configure(term_frequency_adjustments=True),
        cl.JaroWinklerAtThresholds("address", [0.9, 0.8]),
        cl.ExactMatch("city").configure(term_frequency_adjustments=True),
    ]
    rules = [
        block_on("first_name", "last_name", "substr(birth_date, 1, 4)"),
        block_on("last_name", "birth_date"),
        block_on("first_name", "birth_date"),
        block_on("postal_code", "last_name"),
        block_on("postal_code", "first_name"),
        block_on("postal_code", "birth_date"),
    ]
    sure = ["l.first_name = r.first_name AND l.last_name = r.last_name AND l.birth_date = r.birth_date"]
    if has["email"]:
        comparisons.append(cl.EmailComparison("email"))
        rules.append(block_on("email"))
        sure.append("l.email = r.email")
    for name in ["phone", "national_id"]:
        if has[name]:
            comparisons.append(cl.DamerauLevenshteinAtThresholds(name, 1))
            rules.append(block_on(name))
            sure.append(f"l.{name} = r.{name}")
    settings = SettingsCreator(link_type="dedupe_only", comparisons=comparisons, blocking_rules_to_generate_predictions=rules)
    linker = Linker(api.register("people"), settings, log_level=40)
    linker.training.estimate_probability_two_random_records_match(sure, recall=0.7)
    linker.training.estimate_u_using_random_sampling(max_pairs=1e6)
    linker.training.estimate_parameters_using_expectation_maximisation(block_on("first_name", "last_name"))
    linker.training.estimate_parameters_using_expectation_maximisation(block_on("birth_date"))
    pairs = linker.inference.predict(threshold_match_probability=threshold)
    clusters = linker.clustering.cluster_pairwise_predictions_at_threshold(pairs, threshold)
    con.execute(f"CREATE TABLE found AS SELECT unique_id, cluster_id FROM {clusters.physical_name}")
    seconds = time.time() - started
    con.execute(f"CREATE TABLE truth AS SELECT * FROM read_csv('{truth}', all_varchar = true)")
    of = lambda by: f"(SELECT coalesce(sum(n * (n - 1) // 2), 0) FROM (SELECT count(*) AS n FROM found JOIN truth ON unique_id = customer_id GROUP BY {by}))"
    real, made, right = con.execute(f"SELECT {of('person')}, {of('cluster_id')}, {of('person, cluster_id')}").fetchall()[0]
    precision, recall = right / max(1, made), right / max(1, real)
    print(json.dumps({
        "job": "splink", "seconds": round(seconds, 1), "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "precision": round(precision, 4), "recall": round(recall, 4), "f1": round(2 * precision * recall / max(1e-9, precision + recall), 4),
    }))


if __name__ == "__main__":
    main(*sys.argv[1:3], *(float(x) for x in sys.argv[3:4]))
