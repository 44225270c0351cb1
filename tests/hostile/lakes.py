"""Lakes that somebody damaged. What a published night consists of is proven by `snapshots verify`, or it says what is not as it was; no
reader panics; and the next night ends as it would have, or says what is wrong."""

import json
import os
import shutil

from sources import PROJECT, Shop
from trials import Broken, run

NIGHTS = ("2025-12-01", "2025-12-15", "2025-12-28")
NEXT = "2026-01-01"


class Lake:
    """A lake of three nights, and what the fourth is."""

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
        ended = self.run(folder, "run", "--as-of", NEXT)
        if ended.code:
            raise Broken(ended.err)
        self.expect = self.fingerprints(folder, NEXT)
        shutil.rmtree(f"{folder}/lake")
        shutil.copytree(f"{folder}/before", f"{folder}/lake")
        self.head = json.loads(self.run(folder, "snapshots", "list", "--json").out)[-1]["hash"]
        self.files = sorted(
            os.path.relpath(os.path.join(place, name), f"{folder}/lake")
            for place, _, names in os.walk(f"{folder}/lake") for name in names
        )

    def run(self, folder, *arguments):
        return run([self.tessera, *arguments, "--project", PROJECT, "--lake", "lake"], folder)

    def fingerprints(self, folder, night):
        shown = self.run(folder, "snapshots", "show", "--as-of", night, "--json")
        if shown.code:
            raise Broken(f"a published night cannot be shown: {shown.err}")
        return {name: table["fingerprint"] for name, table in json.loads(shown.out)["tables"].items()}

    def damage(self, r, lake):
        """Damages the lake; gives what was done, for people."""
        name = r.choice(self.files)
        path = f"{lake}/{name}"
        with open(path, "rb") as file:
            data = file.read()
        os.remove(path)
        kind = r.choice(["flip", "flip", "flip", "cut", "gone", "empty", "longer", "other", "twice"])
        if kind == "gone":
            return f"{name} is gone"
        if kind == "flip":
            changed = bytearray(data)
            if changed:
                changed[r.randrange(len(changed))] ^= 1 << r.randrange(8)
            data = bytes(changed)
        elif kind == "cut":
            data = data[: r.randrange(len(data) + 1)] if data else data
        elif kind == "empty":
            data = b""
        elif kind == "longer":
            data += bytes(r.randrange(256) for _ in range(r.randrange(1, 50)))
        elif kind == "other":
            like = [other for other in self.files if os.path.splitext(other)[1] == os.path.splitext(name)[1] and other != name]
            with open(f"{self.folder}/before/{r.choice(like or self.files)}", "rb") as file:
                data = file.read()
        elif kind == "twice":
            data += data
        with open(path, "wb") as file:
            file.write(data)
        return f"{name}: {kind}"

    def attack(self, r, folder):
        shutil.copytree(f"{self.folder}/before", f"{folder}/lake", copy_function=os.link)
        os.symlink(f"{self.folder}/data", f"{folder}/data")
        shutil.copy(f"{self.folder}/{PROJECT}", folder)
        done = self.damage(r, f"{folder}/lake")
        name = done.split(":")[0].split(" is gone")[0]
        with open(f"{self.folder}/before/{name}", "rb") as file:
            same = os.path.exists(f"{folder}/lake/{name}") and file.read() == open(f"{folder}/lake/{name}", "rb").read()
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
                if told != self.expect:
                    differ = [table for table in self.expect if told.get(table) != self.expect[table]]
                    raise Broken(f"another night is published: {', '.join(differ)}")
            elif not ended.err.strip():
                raise Broken(f"the night ends with {ended.code} without a word")
            matters = not ignored(name)
            if verified.code == 0 and matters:
                raise Broken("verify finds nothing")
        except Broken as problem:
            raise Broken(f"{done}: {problem}") from None
        seen = "seen by verify" if verified.code else "not of a published night"
        return f"{seen}, night {'published' if ended.code == 0 else f'ends with {ended.code}'}"


def ignored(name):
    """What no published night consists of: who is at work, whether the store can create, what is gone through once. Of the registry's
    newest commit, what it leads to is verified; its other words are proven by the row that comes next."""
    newest = f"snapshots/_delta_log/{len(NIGHTS) - 1:020}.json"
    return name == newest or name.startswith(("_tessera/probe", "_tessera/leases/", "_tessera/scratch/"))
