"""The same shop as other people would export it, and damaged: spreadsheets, Parquet, files without a header, decimal commas, blanks, nested
JSON, several feeds, SQL over files, folders that name a column. What nobody damaged gives the night that the plain files give; of what
somebody did, no row is lost, nothing panics, and an error names its file."""

import csv
import datetime
import decimal
import io
import json
import os
import re
import shutil

import openpyxl
import pyarrow
import pyarrow.parquet

from sources import HOSTILE_VALUES, MUTATIONS, PROJECT, Shop, cut, flip, splice
from trials import Broken, tree

MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\Z")
NUMBER = re.compile(r"-?\d+(\.\d+)?\Z")
COLUMNS = {
    "order_id": "order_no", "line_id": "line_no", "customer_id": "cust_no", "ordered_at": "order_ts", "product_id": "sku", "category": "product_group",
    "quantity": "qty", "unit_price": "net_unit_price", "discount": "TRY_CAST(discount_pct AS DOUBLE) / 100", "channel": "sales_channel",
    "is_return": "return_flag = 'Y'",
}


def block(source, **columns):
    """What the project file says of transactions."""
    mapped = {**COLUMNS, **columns}
    lines = [f"{name} = {json.dumps(value)}" for name, value in mapped.items() if value is not None]
    head, _, rest = source.partition("\n---\n")
    return f"[sources.transactions]\n{head}\n[sources.transactions.columns]\n" + "\n".join(lines) + f"\n{rest}\n"


def text_of(rows, names, delimiter=",", header=True):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    if header:
        writer.writerow(names)
    writer.writerows([row.get(name, "") for name in names] for row in rows)
    return out.getvalue()


def hostile(r, rows, names):
    """Some cells are what nobody expects."""
    rows = [dict(row) for row in rows]
    for _ in range(r.choice([0, 1, 3, 20])):
        r.choice(rows)[r.choice(names)] = r.choice(HOSTILE_VALUES)
    return rows


def moment(value):
    """The moment that a text is, if it is one."""
    try:
        return datetime.datetime.fromisoformat(value) if MOMENT.match(value) else None
    except ValueError:
        return None


def native(name, value):
    if moment(value):
        return moment(value)
    if name in ("qty", "net_unit_price", "discount_pct", "unit_cost", "line_no") and NUMBER.match(value):
        return float(value) if "." in value else int(value)
    return value or None


# A cell of a spreadsheet has no control characters.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def sheet(r, rows, names, damage):
    book = openpyxl.Workbook()
    page = book.active
    page.append(names)
    for row in rows:
        cells = [native(name, row.get(name, "")) for name in names]
        page.append([CONTROL.sub("", cell)[:32000] if isinstance(cell, str) else cell for cell in cells])
    if damage:
        for _ in range(r.choice([0, 1, 2])):
            cell = page.cell(r.randrange(1, page.max_row + 1), r.randrange(1, len(names) + 1))
            cell.value = r.choice(["=1/0", "#REF!", True, 1e308, -1e-308, datetime.date(1900, 1, 1), datetime.time(1, 2), "=A1"])
        if r.random() < 0.2:
            page.merge_cells(start_row=2, start_column=1, end_row=3, end_column=2)
        if r.random() < 0.2:
            page.insert_rows(r.randrange(1, 5), r.randrange(1, 4))
        if r.random() < 0.2:
            book.create_sheet("other").append(["x"])
    out = io.BytesIO()
    book.save(out)
    return {"lines.xlsx": out.getvalue()}, block('url = "data/transactions/"')


def parquet(r, rows, names, damage):
    columns = {}
    for name in names:
        values = [row.get(name) or None for row in rows]
        known = [value for value in values if value is not None]
        if known and all(moment(value) for value in known):
            array = pyarrow.array([value and moment(value) for value in values], pyarrow.timestamp(r.choice(["s", "ms", "us"])))
        elif name in ("qty", "line_no") and known and all(re.match(r"-?\d{1,9}\Z", value) for value in known):
            array = pyarrow.array([value and int(value) for value in values], r.choice([pyarrow.int32(), pyarrow.int64(), pyarrow.float64()]))
        elif name == "net_unit_price" and known and all(re.match(r"-?\d{1,9}(\.\d{1,4})?\Z", value) for value in known):
            kind = r.choice([pyarrow.decimal128(18, 4), pyarrow.float64()])
            array = pyarrow.array([value and decimal.Decimal(value) for value in values], pyarrow.decimal128(18, 4)).cast(kind)
        else:
            array = pyarrow.array(values, r.choice([pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()]))
            if r.random() < 0.3 and array.type == pyarrow.string():
                array = array.dictionary_encode()
        columns[name] = array
    out = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table(columns), out, row_group_size=r.choice([7, 100, 100_000]), compression=r.choice(["snappy", "zstd", "gzip", "none", "lz4"]),
        version=r.choice(["1.0", "2.6"]), data_page_version=r.choice(["1.0", "2.0"]),
    )
    # As a decimal, the discount is no text.
    return {"lines.parquet": out.getvalue()}, block('url = "data/transactions/"', line_id="CAST(CAST(line_no AS DOUBLE) AS BIGINT)")


def headerless(r, rows, names, _damage):
    told = json.dumps(names)
    data = "Export of the shop\nmade on Monday\n" + text_of(rows, names, header=False)
    return {"lines.csv": data.encode()}, block(f'url = "data/transactions/"\nheader = false\nskip_lines = 2\nnames = {told}')


def german(r, rows, names, _damage):
    def write(name, value):
        if moment(value):
            return moment(value).strftime("%d.%m.%Y %H:%M:%S")
        if name in ("qty", "net_unit_price", "unit_cost") and NUMBER.match(value):
            whole, _, fraction = value.partition(".")
            sign, whole = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
            grouped = f"{int(whole):,}".replace(",", ".") if len(whole) < 15 else whole
            return sign + grouped + ("," + fraction if fraction else "")
        return value

    data = text_of([{name: write(name, row.get(name, "")) for name in names} for row in rows], names, ";")
    settings = 'encoding = "latin-1"\ndecimal = ","\nthousands = "."\ndate_formats = ["%d.%m.%Y %H:%M:%S"]'
    return {"Umsätze.csv": data.encode("latin-1", errors="replace")}, block(f'url = "data/transactions/"\n{settings}')


def blanks(r, rows, names, _damage):
    def line(cells):
        return (" " * r.choice([1, 1, 3])).join(re.sub(r'[\s"]', "_", cell) or "-" for cell in cells)

    lines = [line(names)] + [line([row.get(n, "").replace(" ", "T") if n == "order_ts" else row.get(n, "") for n in names]) for row in rows]
    return {"lines.txt": ("\n".join(lines) + "\n").encode()}, block('url = "data/transactions/"\ndelimiter = " "\nnull_values = ["-"]')


def nested(r, rows, names, _damage):
    lines = []
    for row in rows:
        row = {name: row.get(name) or None for name in names}
        order = {"no": row.pop("order_no"), "line": {"no": row.pop("line_no")}}
        lines.append(json.dumps({"order": order, "who": [row.pop("cust_no")], **row}))
    data = ("\n".join(lines) + "\n").encode()
    return {"lines.ndjson": data}, block('url = "data/transactions/"', order_id="order.no", line_id="order.line.no", customer_id="who[0]")


def query(r, rows, names, _damage):
    products = sorted({(row.get("sku", ""), row.get("product_group", "")) for row in rows})
    seen = {sku: group for sku, group in reversed(products)}
    others = [name for name in names if name != "product_group"]
    files = {
        "lines.csv": text_of(rows, others).encode(),
        "../products.csv": text_of([{"sku": sku, "product_group": group} for sku, group in seen.items()], ["sku", "product_group"]).encode(),
    }
    sql = "SELECT l.*, p.product_group FROM lines AS l LEFT JOIN products AS p ON l.sku = p.sku"
    more = '[files.lines]\nurl = "data/transactions/"\n[files.products]\nurl = "data/products.csv"'
    return files, block(f'query = "{sql}"\n---\n{more}')


def feeds(r, rows, names, _damage):
    half = len(rows) // 2
    web = "\n".join(json.dumps({f"{name}_": row.get(name) or None for name in names}) for row in rows[half:])
    files = {"shop.csv": text_of(rows[:half], names).encode(), "web.ndjson": (web + "\n").encode()}
    plain = block('url = "data/transactions/shop*"').replace("[sources.transactions", "[sources.transactions.shop")
    renamed = {key: re.sub(r"\b(order_no|line_no|cust_no|order_ts|sku|product_group|qty|net_unit_price|discount_pct|sales_channel|return_flag)\b", r"\1_", value) for key, value in COLUMNS.items()}
    other = block('url = "data/transactions/web*"', **renamed).replace("[sources.transactions", "[sources.transactions.web")
    return files, plain + other


def folders(r, rows, names, _damage):
    by_channel = {}
    for row in rows:
        channel = row.get("sales_channel", "")
        by_channel.setdefault(channel if re.match(r"\w{1,40}\Z", channel, re.ASCII) else "none", []).append(row)
    others = [name for name in names if name != "sales_channel"]
    files = {f"sales_channel={channel}/lines.csv": text_of(rows, others).encode() for channel, rows in by_channel.items()}
    return files, block('url = "data/transactions/"')


DIALECTS = [sheet, parquet, headerless, german, blanks, nested, query, feeds, folders]


class Formats(Shop):
    """The clean shop, to be exported otherwise."""

    def __init__(self, tessera, folder):
        super().__init__(tessera, folder)
        self.rows_of_lines, self.names = [], []
        place = f"{folder}/data/transactions"
        for name in sorted(os.listdir(place)):
            with open(f"{place}/{name}", newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file, restkey="more", restval="")
                for row in reader:
                    if row.pop("more", None) is None:
                        self.rows_of_lines.append({key: value or "" for key, value in row.items()})
                self.names = reader.fieldnames

    def attack(self, r, folder):
        shutil.copytree(f"{self.folder}/data", f"{folder}/data", ignore=shutil.ignore_patterns("transactions"))
        os.mkdir(f"{folder}/data/transactions")
        dialect = r.choice(DIALECTS)
        damage = r.random() > 0.15
        rows = hostile(r, self.rows_of_lines, self.names) if damage and r.random() < 0.6 else self.rows_of_lines
        files, told = dialect(r, rows, self.names, damage)
        if damage and r.random() < 0.8:
            name = r.choice(sorted(files))
            kinds = [flip, cut, splice] if name.endswith((".xlsx", ".parquet")) else MUTATIONS
            files[name] = r.choice(kinds)(r, files[name])
        for name, data in files.items():
            path = os.path.normpath(f"{folder}/data/transactions/{name}")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
        with open(f"{self.folder}/{PROJECT}", encoding="utf-8") as file:
            plain = file.read()
        start, end = plain.index("[sources.transactions]"), plain.index("[sources.interactions]")
        with open(f"{folder}/{PROJECT}", "w", encoding="utf-8") as file:
            file.write(plain[:start] + told + plain[end:])
        sources = tree(f"{folder}/data")
        try:
            return f"{dialect.__name__} {self.verdict(folder, sources, damage)}"
        except Broken as problem:
            raise Broken(f"{dialect.__name__}: {problem}") from None

    def verdict(self, folder, sources, damage):
        ended = self.night(folder)
        if tree(f"{folder}/data") != sources or set(os.listdir(folder)) - {"data", "lake", PROJECT}:
            raise Broken("a source was changed, or a file made outside the lake")
        if any(sequence in ended.err + ended.out for sequence in ("\x1b[31mred", "\x1b]0;", "a\x1b[2Jb")):
            raise Broken("an escape sequence of a source reached the terminal")
        if ended.code in (1, 2, 75):
            if not damage or ended.code == 75 or "transactions" not in ended.err and "data/" not in ended.err and "files." not in ended.err:
                raise Broken(f"exit code {ended.code}: {ended.err.strip()[-400:]}")
            return "refused"
        if ended.code == 3:
            raise Broken("no gate is asked that could hold the night")
        rows = self.rows(folder)
        for source, read in rows["read"].items():
            kept = rows["kept"].get(source, 0) + rows.get("aside", {}).get(source, 0) + rows.get("later", {}).get(source, 0)
            if read != kept:
                raise Broken(f"{source}: {read} rows read, {kept} somewhere")
        if not damage and rows["clean"] != self.clean:
            raise Broken(f"{len(self.clean - rows['clean'])} clean lines are missing, {len(rows['clean'] - self.clean)} are new")
        return "published"
