"""Nights that end at a random call to the system. A reader sees the night before or the whole night; run again, the night ends as
it would have, and all of the lake is what was recorded."""

import os
import shutil
import subprocess

from lakes import NEXT, Lake
from sources import PROJECT
from trials import Broken, run


class Kills:
    def __init__(self, tessera, folder):
        self.tessera, self.folder = tessera, folder
        self.lake = Lake(tessera, folder)
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kill.c")
        self.shim = f"{folder}/kill.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", self.shim, source, "-ldl"], check=True)
        self.calls = None
        self.calls = self.count(folder)

    def count(self, folder):
        """How many calls a night makes."""
        work = f"{folder}/count"
        os.mkdir(work)
        self.prepare(work)
        ended = self.night(work, {"KILL_COUNTS": f"{folder}/calls"})
        if ended.code:
            raise Broken(ended.err)
        return int(open(f"{folder}/calls").read())

    def prepare(self, folder):
        shutil.copytree(f"{self.folder}/before", f"{folder}/lake", copy_function=os.link)
        os.symlink(f"{self.folder}/data", f"{folder}/data")
        shutil.copy(f"{self.folder}/{PROJECT}", folder)

    def night(self, folder, environment, documented=None):
        command = [self.tessera, "run", "--as-of", NEXT, "--project", PROJECT, "--lake", "lake"]
        return run(command, folder, {"LD_PRELOAD": self.shim, **environment}, documented)

    def attack(self, r, folder):
        self.prepare(folder)
        at = r.randrange(1, self.calls + 1)
        killed = self.night(folder, {"KILL_AT": str(at)})
        if killed.code not in (0, -9):
            raise Broken(f"exit code {killed.code}: {killed.err.strip()[-300:]}")
        counted = self.lake.run(folder, "sql", "SELECT count(DISTINCT as_of) AS nights, count(*) FROM kpis", "--format", "csv")
        if counted.code:
            raise Broken(f"call {at}: a reader fails: {counted.err.strip()[-300:]}")
        left = self.lake.run(folder, "snapshots", "verify")
        if left.code:
            raise Broken(f"call {at}: what is published is not proven any more: {left.err.strip()[-300:]}")
        ended = self.night(folder, {}, None)
        if ended.code:
            raise Broken(f"call {at}: run again, the night ends with {ended.code}: {ended.err.strip()[-300:]}")
        if self.lake.fingerprints(folder, NEXT) != self.lake.expect:
            raise Broken(f"call {at}: another night")
        verified = self.lake.run(folder, "snapshots", "verify")
        if verified.code:
            raise Broken(f"call {at}: verify: {verified.err.strip()[-300:]}")
        return "killed and run again" if killed.code else "ended before"
