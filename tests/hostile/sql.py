"""Queries that want more than to read. `tessera sql` is a window on the lake's tables: whatever is asked, no file is written or
read outside of it, nothing in it changes, personal data needs `--restricted`, and the program neither panics nor hangs."""

import os
import shutil

from sources import NIGHT, PROJECT, Shop
from trials import Broken, run, tree

SECRETS = ("canary-of-the-file", "the tests keep no secrets")
TABLES = [
    "kpis", "segments", "features", "segment_profiles", "clean_customers", "clean_transactions", "quarantine", "identity", "accounts", "inputs",
    "ledger", "snapshots", "validation", "nowhere", "information_schema.tables", "datafusion.public.kpis", "'canary.csv'", "\"canary.csv\"",
    "'lake/kpis'", "read_csv('canary.csv')", "read_parquet('canary.csv')", "parquet_metadata('lake')", "generate_series(1, 10)",
    "range(1000)", "metadata_cache()", "(VALUES (1), (2)) AS v(x)", "(SELECT 1 AS x)", "kpis AS a, kpis AS b",
]
COLUMNS = [
    "*", "count(*)", "1", "kpi", "value", "email", "customer_id", "customer_key('C1')", "version()", "current_setting('x')", "now()", "random()",
    "uuid()", "repeat('x', 10000)", "array_repeat(1, 100)", "1/0", "CAST('x' AS INT)", "sum(numerator)", "max(record)",
    "row_number() OVER ()", "encode('a', 'hex')", "struct(1)", "NULL", "(SELECT email FROM clean_customers LIMIT 1)", "lpad('x', 200)",
    "generate_series(1, 100)", "regexp_replace('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '(a+)+$', 'b')", "x'00'", "'\x1b[31mred'",
]
STATEMENTS = [
    "{select}", "{select}", "{select}", "COPY ({select}) TO 'out.csv'", "COPY ({select}) TO 'lake/kpis/x.parquet' STORED AS PARQUET",
    "EXPLAIN ANALYZE COPY ({select}) TO 'out.csv'", "EXPLAIN {select}", "EXPLAIN ANALYZE {select}", "EXPLAIN VERBOSE {select}",
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'canary.csv'", "CREATE TABLE t AS {select}", "CREATE VIEW t AS {select}",
    "INSERT INTO kpis {select}", "DELETE FROM kpis", "UPDATE kpis SET value = 0", "DROP TABLE kpis", "TRUNCATE TABLE kpis", "SET datafusion.execution.batch_size = 1",
    "SHOW ALL", "SHOW TABLES", "DESCRIBE kpis", "PREPARE p AS {select}", "EXECUTE p", "BEGIN", "COMMIT", "CREATE FUNCTION f() RETURNS INT RETURN 1",
    "COPY ({select}) TO 's3://nowhere.invalid/x'", "{select}; DROP TABLE kpis", "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r WHERE x < 10) SELECT * FROM r",
    "ANALYZE TABLE kpis", "LOAD 'canary.csv'", "CREATE SCHEMA s", "CREATE DATABASE d", "GRANT ALL ON kpis TO x", "", ";", "--", "/*", "(", "SELECT", "{select} --",
    "VALUES (1)", "TABLE kpis", "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'http://127.0.0.1:1/x'", "EXPLAIN COPY ({select}) TO 'out.csv'",
]


FITTING = [
    "SELECT kpi, value FROM kpis", "SELECT email, customer_id FROM clean_customers", "SELECT record FROM quarantine", "SELECT * FROM identity",
    "SELECT customer_key('C0000001') AS k", "SELECT count(*) FROM features", "SELECT s.segment_id, count(*) FROM segments AS s JOIN features AS f "
    "ON s.customer_key = f.customer_key GROUP BY 1", "SELECT * FROM snapshots", "SELECT sum(amount) FROM clean_transactions",
]


class Window:
    def __init__(self, tessera, folder):
        self.tessera, self.folder = tessera, folder
        self.shop = Shop(tessera, folder)
        with open(f"{folder}/canary.csv", "w") as file:
            file.write(f"secret\n{SECRETS[0]}\n")

    def query(self, r):
        select = f"SELECT {', '.join(r.choice(COLUMNS) for _ in range(r.choice([1, 1, 2, 4])))} FROM {r.choice(TABLES)}"
        if r.random() < 0.3:
            select += r.choice([
                " WHERE value > 0", " GROUP BY 1", " ORDER BY 1", " LIMIT 3", " UNION ALL SELECT 1", " WHERE 1 = (SELECT count(*) FROM kpis)",
                " HAVING count(*) > 1", " LIMIT -1", " OFFSET 99999999999999", " JOIN kpis ON true", " WHERE email LIKE '%'",
            ])
        if r.random() < 0.5:
            # One that fits, so that what is around it is what is tried.
            select = r.choice(FITTING)
        query = select if r.random() < 0.4 else r.choice(STATEMENTS).format(select=select)
        if r.random() < 0.2 and query:
            text = list(query)
            for _ in range(r.choice([1, 2, 5])):
                text[r.randrange(len(text))] = r.choice("();,'\"*%\\ \t\u00e9\U0001f71d0x.-")
            query = "".join(text)
        if r.random() < 0.02:
            query = r.choice(["(" * 5000, "SELECT " + "(" * 500 + "1" + ")" * 500, "SELECT " + "1+" * 3000 + "1", "x" * 100_000])
        return query.replace("\x00", "")

    def attack(self, r, folder):
        for name in ("lake", "data", "canary.csv"):
            os.symlink(f"{self.folder}/{name}", f"{folder}/{name}")
        shutil.copy(f"{self.folder}/{PROJECT}", folder)
        query = self.query(r)
        restricted = r.random() < 0.3
        command = [self.tessera, "sql", query, "--project", PROJECT, "--lake", "lake", "--format", r.choice(["table", "csv", "json"])]
        command += r.choice([[], [], ["--as-of", NIGHT]]) + (["--restricted"] if restricted else [])
        before, own = tree(f"{self.folder}/lake"), set(os.listdir(folder))
        try:
            told = run(command, folder)
            if tree(f"{self.folder}/lake") != before or set(os.listdir(folder)) != own:
                raise Broken("a file was written")
            if any(secret in told.out + told.err for secret in SECRETS):
                raise Broken("a file outside the lake was read")
            if not restricted and "@" in told.out and "example" in told.out:
                raise Broken("personal data without --restricted")
            if told.code not in (0, 1, 2):
                raise Broken(f"exit code {told.code}: {told.err.strip()[-300:]}")
            if told.code and not told.err.strip():
                raise Broken("refused without a word")
        except Broken as problem:
            raise Broken(f"{query[:300]!r}: {problem}") from None
        return "answered" if told.code == 0 else "refused"
