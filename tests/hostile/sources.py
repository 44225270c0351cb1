"""Sources that are broken in ways that nobody thought of. Whatever the bytes: no panic, no hang, a documented exit code, an error
that names the file; and of a night that ends, every row is somewhere, and the rows that nobody touched are where they were."""

import csv
import gzip
import io
import json
import os
import shutil

import zstandard

from trials import Broken, run, tree

NIGHT = "2026-01-01"
PROJECT = "hostile.toml"
CHECKS = (
    "files_gone", "columns_gone", "quarantined_share", "quarantined_share_of_new", "quarantined_share_of_file", "rows_kept",
    "amount_kept", "freshness", "recent_rows", "recent_revenue",
)
ENTITIES = ("transactions", "transactions", "transactions", "customers", "interactions", "survey_responses")

HOSTILE_VALUES = [
    "", " ", "NULL", "NaN", "inf", "-inf", "-0", "1e400", "1e-400", "1.00004", "0.00005", "99999999999999999999999", "0x10",
    "1,5", "1.234,56", "5%", "true", "2025-02-30", "0000-00-00", "9999-12-31", "2025-06-01T00:00:00+25:00", "2025-03-30 02:30:00",
    "2025-06-01T24:00:00", "1970-01-01", "-1", "2147483648", "9223372036854775808", "'; DROP TABLE x; --", "=1+1", "\x1b[31mred", "\u202e",
    "a" * 5000, "\x00", "\ufeff", "é" * 300, "🜍", "\\", "\\N", "\"\"", "''", "C1", "2025-12-31T23:59:59.999999999Z",
]


def lines_of(data):
    return data.split(b"\n")


def flip(r, data):
    data = bytearray(data)
    for _ in range(r.choice([1, 1, 2, 8, 64])):
        if data:
            data[r.randrange(len(data))] = r.randrange(256)
    return bytes(data)


def cut(r, data):
    return data[: r.randrange(len(data) + 1)]


def splice(r, data):
    at, to = sorted(r.randrange(len(data) + 1) for _ in range(2))
    piece = data[at:min(to, at + 4096)]
    return r.choice([data[:at] + data[at + len(piece):], data[:at] + piece + data[at:], data + piece])


def insert(r, data):
    piece = r.choice([
        b'"', b'"', b'""', b"\r", b"\n", b"\r\n", b",", b";", b"\x00", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3", b"\xa9", b"\\", b"'",
        b"\x1b]0;x\x07", bytes(r.randrange(256) for _ in range(r.randrange(1, 40))), b"x" * 70_000, b"\n" * 50, b",".join([b"y"] * 300),
    ])
    for _ in range(r.choice([1, 1, 1, 2, 5])):
        at = r.randrange(len(data) + 1)
        data = data[:at] + piece + data[at:]
    return data


def value(r, data):
    lines = lines_of(data)
    for _ in range(r.choice([1, 3, 20])):
        at = r.randrange(len(lines))
        fields = lines[at].split(b",")
        fields[r.randrange(len(fields))] = r.choice(HOSTILE_VALUES).encode()
        lines[at] = b",".join(fields)
    return b"\n".join(lines)


def columns(r, data):
    lines = lines_of(data)
    header = lines[0].split(b",")
    at = r.randrange(len(header))
    header[at] = r.choice([b"", header[0], b"_locator", b"x" * 300, b'"', header[at].upper(), header[at] + b" ", b"a\x1b[2Jb", b"customer_key"])
    lines[0] = r.choice([b",".join(header), b",".join(header[::-1]), b"", b",".join(header + [b"more"])])
    return b"\n".join(lines)


def order(r, data):
    lines = lines_of(data)
    body = lines[1:]
    r.shuffle(body)
    return b"\n".join([lines[0]] + body + body[: r.randrange(5)])


def text(r, data):
    plain = data.decode("utf-8", errors="replace")
    return r.choice([
        lambda: plain.encode("utf-16"), lambda: plain.encode("utf-16-le"), lambda: plain.encode("latin-1", errors="replace"),
        lambda: b"\xef\xbb\xbf" + data, lambda: data.replace(b"\n", b"\r\n"), lambda: data.replace(b"\n", b"\r"),
        lambda: data.replace(b",", b";"), lambda: data.replace(b",", b"\t"), lambda: data.rstrip(b"\n"), lambda: b"", lambda: b"\n\n",
        lambda: data.replace(b"\n", b"\n\n"),
    ])()


MUTATIONS = [flip, cut, splice, insert, insert, value, value, columns, order, text]


def compressed(r, data):
    """The file's name and bytes after compression, and whether the bytes must be refused."""
    kind = r.choice(["csv", "csv", "csv", "csv.gz", "csv.zst"])
    if kind == "csv":
        return kind, data, False
    packed = gzip.compress(data) if kind == "csv.gz" else zstandard.ZstdCompressor().compress(data)
    broken = r.choice(["no", "no", "cut", "flip", "twice", "garbage", "skippable"])
    if broken == "cut":
        return kind, packed[: r.randrange(1, len(packed))], True
    if broken == "flip":
        return kind, flip(r, packed), None
    if broken == "twice":
        more = data.split(b"\n", 1)[-1]
        again = gzip.compress(more) if kind == "csv.gz" else zstandard.ZstdCompressor().compress(more)
        return kind, packed + again, None
    if broken == "garbage":
        return kind, packed + bytes(r.randrange(256) for _ in range(r.randrange(1, 30))), None
    if broken == "skippable" and kind == "csv.zst":
        return kind, b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd" + packed, False
    return kind, packed, False


def as_ndjson(r, data):
    rows = csv.DictReader(io.StringIO(data.decode()))
    lines = [json.dumps(row).encode() for row in rows]
    for _ in range(r.choice([0, 1, 1, 4])):
        at = r.randrange(len(lines))
        lines[at] = r.choice([
            lambda line: line[:-1], lambda line: line.replace(b'"', b"'"), lambda line: b"[" + line + b"]", lambda line: b"{}", lambda line: b"null",
            lambda line: b"[" * 100_000, lambda line: line.replace(b'": "', b'": 1e999, "x": "', 1), lambda line: line + line,
            lambda line: b'{"a": {"b": [1, {"c": null}]}}', lambda line: line.replace(b"{", b'{"k\\u0000": "\\ud800", ', 1),
            lambda line: flip(r, line).replace(b"\n", b" ").replace(b"\r", b" "),
        ])(lines[at])
    return b"\n".join(lines)


class Shop:
    """A small clean shop, its project file, and which rows of it are clean ones."""

    def __init__(self, tessera, folder):
        self.tessera, self.folder = tessera, folder
        made = run([tessera, "generate", "--customers", "150", "--format", "csv", "--out", "data"], folder)
        if made.code:
            raise Broken(made.err)
        here = os.path.dirname(os.path.abspath(__file__))
        shutil.copy(os.path.join(here, "../../crates/tessera/src/commands/demo/tessera.toml"), f"{folder}/{PROJECT}")
        with open(f"{folder}/{PROJECT}", "a") as project:
            project.write("\n[segmentation]\nk = 3\n")
            for gate in ("silhouette", "variance_between_share", "share", "customers"):
                project.write(f"[validation.gates.{gate}]\nrequired = false\n")
            # Of a night that is held nobody can say what became of its rows.
            for check in CHECKS:
                project.write(f"[quality.checks.{check}]\nrequired = false\n")
        ended = self.night(folder)
        if ended.code:
            raise Broken(ended.err)
        self.clean = self.rows(folder)["clean"]

    def night(self, folder):
        return run([self.tessera, "run", "--as-of", NIGHT, "--project", PROJECT, "--lake", "lake"], folder)

    def rows(self, folder):
        """What the night says of its rows: what was read, by source; the clean lines; and what was set aside."""
        query = (
            "SELECT 'read' AS what, source AS a, '' AS b, rows AS n FROM inputs "
            "UNION ALL SELECT 'later', source, '', rows_after_as_of FROM inputs "
            "UNION ALL SELECT 'aside', source, '', count(*) FROM quarantine GROUP BY 2 "
            "UNION ALL SELECT 'clean', order_id, coalesce(line_id, ''), count(*) FROM clean_transactions GROUP BY 2, 3 "
            + "".join(
                f"UNION ALL SELECT 'kept', '{e}', '', count(*) FROM clean_{e} "
                for e in ("customers", "transactions", "interactions", "campaign_contacts", "survey_responses", "marketing_costs")
            )
        )
        told = run([self.tessera, "sql", query, "--as-of", NIGHT, "--restricted", "--format", "csv", "--project", PROJECT, "--lake", "lake"], folder)
        if told.code:
            raise Broken(f"the night cannot be read: {told.err}")
        found = {"clean": set()}
        for what, a, b, n in list(csv.reader(io.StringIO(told.out)))[1:]:
            if what == "clean":
                found["clean"].add((a, b))
            else:
                sums = found.setdefault(what, {})
                sums[a] = sums.get(a, 0) + int(n)
        return found

    def attack(self, r, folder):
        shutil.copytree(f"{self.folder}/data", f"{folder}/data")
        shutil.copy(f"{self.folder}/{PROJECT}", folder)
        entity = r.choice(ENTITIES)
        place = f"{folder}/data/{entity}"
        name = r.choice(sorted(os.listdir(place)))
        with open(f"{place}/{name}", "rb") as file:
            before = file.read()
        os.remove(f"{place}/{name}")
        must_fail, data = False, before
        if r.random() < 0.2:
            data = as_ndjson(r, before)
            kind, packed = "ndjson", data
        else:
            for _ in range(r.choice([1, 1, 1, 2, 3])):
                data = r.choice(MUTATIONS)(r, data)
            kind, packed, must_fail = compressed(r, data)
        stem = r.choice(["part", "part", "a b", "ü", "x[1]", "100%", "a'b", "-rf"])
        with open(f"{place}/{stem}.{kind}", "wb") as file:
            file.write(packed)
        if r.random() < 0.05:
            r.choice([
                lambda: os.symlink("nowhere", f"{place}/broken.csv"), lambda: os.mkfifo(f"{place}/pipe.csv"),
                lambda: os.mkdir(f"{place}/folder.csv"), lambda: open(f"{place}/empty.csv", "w").close(),
            ])()
        sources = tree(f"{folder}/data")
        ended = self.night(folder)
        if tree(f"{folder}/data") != sources or set(os.listdir(folder)) - {"data", "lake", PROJECT}:
            raise Broken("a source was changed, or a file made outside the lake")
        if any(sequence in ended.err + ended.out for sequence in ("\x1b[31mred", "\x1b]0;", "a\x1b[2Jb")):
            raise Broken("an escape sequence of a source reached the terminal")
        if ended.code == 75:
            raise Broken(f"exit code {ended.code} for a bad source: {ended.err.strip()[-300:]}")
        # A column that the project file maps and the source has no more is the project's to say.
        if ended.code in (1, 2):
            if entity not in ended.err and stem not in ended.err:
                raise Broken(f"an error that names neither source nor file: {ended.err.strip()[-300:]}")
            return "refused"
        if must_fail:
            raise Broken("a file that was cut short was read")
        if ended.code == 3:
            return "held"
        rows = self.rows(folder)
        for source, read in rows["read"].items():
            kept = rows["kept"].get(source, 0) + rows.get("aside", {}).get(source, 0) + rows.get("later", {}).get(source, 0)
            if read != kept:
                raise Broken(f"{source}: {read} rows read, {kept} somewhere")
        plain = data.split(b"\n")[0].rstrip(b"\r") == before.split(b"\n")[0]
        if entity == "transactions" and plain and kind != "ndjson" and must_fail is False and b"\xff\xfe" not in data[:2]:
            # Lines that nobody touched are as clean as they were: one bad line takes no other with it.
            names = before.split(b"\n")[0].decode().split(",")
            whole = set(before.split(b"\n"))
            lines = [line for line in data.replace(b"\r\n", b"\n").split(b"\n") if line in whole]
            intact = set()
            for line in lines:
                row = dict(zip(names, next(csv.reader([line.decode()]), []), strict=False))
                if row.get("order_no") and row["order_no"] != "order_no":
                    intact.add((row["order_no"], row.get("line_no", "")))
            lost = (intact & self.clean) - rows["clean"]
            # Two quotes may make a field of two lines, as the format has it.
            if len(lost) > max(0, data.count(b'"') - before.count(b'"')):
                raise Broken(f"{len(lost)} clean lines that nobody touched are gone, for one {sorted(lost)[0]}")
        return "published"
