"""Lakes that somebody damaged. What a published night consists of is proven by `snapshots verify`, or it says what is not as it was; no
reader panics; and the next night ends as it would have, or says what is wrong."""

import json
import os
import shutil

from sources import PROJECT, Shop
from trials import Broken, run

# As many as make a checkpoint of every log.
NIGHTS = tuple(f"2025-12-{day:02}" for day in range(1, 23, 2))
CHECKPOINT = 9
NEXT = "2026-01-01"
# The registry's last commit.
NEWEST = f"snapshots/_delta_log/{len(NIGHTS) - 1:020}.json"


class Lake:
    """A lake of some nights, and what the next one is."""

    def __init__(self, tessera, folder):
        self.tessera, self.folder = tessera, folder
        self.shop = Shop(tessera, folder)
        shutil.rmtree(f"{folder}/lake")
        for night in NIGHTS:
            ended = self.run(folder, "run", "--as-of", night)
            if ended.code:
                raise Broken(ended.err)
        # As it stood after each night: an attacker may put an old file back.
        shutil.copytree(f"{folder}/lake", f"{folder}/before")
        self.expect = self.next_of(folder)
        # A registry without its last row is that of a last night which ended before it was published; `--expect` tells them apart.
        os.remove(f"{folder}/lake/{NEWEST}")
        self.unpublished = self.next_of(folder)
        self.head = json.loads(self.run(folder, "snapshots", "list", "--json").out)[-1]["hash"]
        self.kinds = {}
        for place, _, names in sorted(os.walk(f"{folder}/lake")):
            for name in names:
                path = os.path.relpath(os.path.join(place, name), f"{folder}/lake")
                self.kinds.setdefault(kind(path), []).append(path)
        self.named = "".join(bytes_of(f"{folder}/lake/{name}").decode() for name in self.kinds["stages"])
        # Names have hashes in them, which are others in every folder.
        for names in self.kinds.values():
            names.sort(key=lambda n: (os.path.dirname(n), os.path.getsize(f"{folder}/lake/{n}"), n))

    def run(self, folder, *arguments):
        return run([self.tessera, *arguments, "--project", PROJECT, "--lake", "lake"], folder)

    def next_of(self, folder):
        """What the next night of the lake is. The lake is as before then."""
        ended = self.run(folder, "run", "--as-of", NEXT)
        if ended.code:
            raise Broken(ended.err)
        told = self.fingerprints(folder, NEXT)
        shutil.rmtree(f"{folder}/lake")
        shutil.copytree(f"{folder}/before", f"{folder}/lake")
        return told

    def fingerprints(self, folder, night):
        shown = self.run(folder, "snapshots", "show", "--as-of", night, "--json")
        if shown.code:
            raise Broken(f"a published night cannot be shown: {shown.err}")
        return {name: table["fingerprint"] for name, table in json.loads(shown.out)["tables"].items()}

    def damage(self, r, lake):
        """Damages the lake; gives what was done, for people, and to which file."""
        if r.random() < 0.15:
            return self.plant(r, lake)
        files = self.kinds[r.choice(sorted(self.kinds))]
        name = r.choice(files)
        path = f"{lake}/{name}"
        with open(path, "rb") as file:
            data = file.read()
        os.remove(path)
        how = r.choice(["flip", "flip", "flip", "cut", "gone", "empty", "longer", "other", "twice"])
        if how == "gone":
            return f"{name} is gone", name
        if how == "flip":
            changed = bytearray(data)
            if changed:
                changed[r.randrange(len(changed))] ^= 1 << r.randrange(8)
            data = bytes(changed)
        elif how == "cut":
            data = data[: r.randrange(len(data) + 1)] if data else data
        elif how == "empty":
            data = b""
        elif how == "longer":
            data += bytes(r.randrange(256) for _ in range(r.randrange(1, 50)))
        elif how == "other":
            like = [other for other in files if os.path.splitext(other)[1] == os.path.splitext(name)[1] and other != name]
            with open(f"{self.folder}/before/{r.choice(like or files)}", "rb") as file:
                data = file.read()
        elif how == "twice":
            data += data
        with open(path, "wb") as file:
            file.write(data)
        return f"{name}: {how}", name

    def plant(self, r, lake):
        """Puts an old commit or checkpoint where another version's would be."""
        old = r.choice(self.kinds["log"] + self.kinds["log of the registry"])
        log, ending = os.path.dirname(old), old[old.rindex("/") + 21:] if old[old.rindex("/") + 1].isdigit() else ""
        # Over the newest, or in the place of a checkpoint that was never made.
        version = len(NIGHTS) if r.random() < 0.7 or ".json" in old else r.choice([3, 8, len(NIGHTS) - 1])
        name = f"{log}/{version:020}{ending or '.checkpoint.parquet'}"
        shutil.copy(f"{self.folder}/before/{old}", f"{lake}/{name}")
        return f"{name}: planted, it is {old}", name

    def attack(self, r, folder):
        shutil.copytree(f"{self.folder}/before", f"{folder}/lake", copy_function=os.link)
        os.symlink(f"{self.folder}/data", f"{folder}/data")
        shutil.copy(f"{self.folder}/{PROJECT}", folder)
        done, name = self.damage(r, f"{folder}/lake")
        before, after = (bytes_of(f"{place}/{name}") for place in (f"{self.folder}/before", f"{folder}/lake"))
        same = before == after
        # What is planted matters if it changes which files there are.
        planted = before is None and active(f"{folder}/lake", name) == active(f"{self.folder}/before", name)
        # A checkpoint holds what its own commit said, and those before; of the registry nobody asks for older versions.
        commit = os.path.basename(name)[:20] if "/_delta_log/0" in name and name.endswith(".json") else ""
        held = after is None and commit and (
            int(commit) == CHECKPOINT or name.startswith("snapshots/") and int(commit) < CHECKPOINT
        )
        # A state that was brought together with others as it was kept is named by no record.
        spare = name.startswith("_tessera/state/") and os.path.basename(name) not in self.named
        matters = not ignored(name) and not planted and not held and not spare
        try:
            verified = self.run(folder, "snapshots", "verify", "--expect", self.head)
            if same:
                if verified.code:
                    raise Broken(f"nothing was changed: {verified.err.strip()[-300:]}")
                return "unchanged"
            if verified.code and not verified.err.strip():
                raise Broken("verify fails without a word")
            read = self.run(folder, "sql", "SELECT count(*) AS n, sum(numerator) AS sum FROM kpis")
            if read.code not in (0, 1):
                raise Broken(f"sql ends with {read.code}: {read.err.strip()[-300:]}")
            ended = self.run(folder, "run", "--as-of", NEXT)
            if ended.code == 0:
                told = self.fingerprints(folder, NEXT)
                if told != self.expect and (name != NEWEST or told != self.unpublished):
                    differ = [table for table in self.expect if told.get(table) != self.expect[table]]
                    raise Broken(f"another night is published: {', '.join(differ)}")
            elif not ended.err.strip():
                raise Broken(f"the night ends with {ended.code} without a word")
            if verified.code == 0 and matters:
                raise Broken("verify finds nothing")
        except Broken as problem:
            raise Broken(f"{done}: {problem}") from None
        seen = "seen by verify" if verified.code else "not of a published night"
        return f"{seen}, night {'published' if ended.code == 0 else f'ends with {ended.code}'}"


def kind(name):
    """What a file of a lake is."""
    place = name.split("/")
    if place[0] == "_tessera":
        return place[1]
    of = " of the registry" if place[0] == "snapshots" else ""
    return f"log{of}" if place[1] == "_delta_log" else f"rows{of}"


def bytes_of(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def active(lake, planted):
    """The files that a log's commits leave active. A planted checkpoint is none of them: it is to be found wherever it lies."""
    log, files = os.path.dirname(f"{lake}/{planted}"), set()
    if not planted.endswith(".json"):
        return os.path.exists(f"{lake}/{planted}")
    for name in sorted(n for n in os.listdir(log) if n.endswith(".json")):
        with open(f"{log}/{name}") as commit:
            for action in map(json.loads, commit):
                files -= {action.get("remove", {}).get("path")}
                files |= {action["add"]["path"]} if "add" in action else set()
    return files


def ignored(name):
    """What no published night consists of: who is at work, whether the store can create, what is gone through once, and the hint where to
    begin with a log. Of the registry's newest commit, what it leads to is verified; its other words are proven by the row that
    comes next."""
    return name == NEWEST or name.endswith("/_last_checkpoint") or name.startswith(("_tessera/probe", "_tessera/leases/", "_tessera/scratch/"))
