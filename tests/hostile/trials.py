"""What all attacks share: trials that run side by side, each in a folder of its own, and a verdict for each."""

import collections
import concurrent.futures
import os
import random
import shutil
import subprocess
import tempfile
import time

# 0 done, 1 failed, 2 usage or project file, 3 held by a gate, 75 try again.
DOCUMENTED = {0, 1, 2, 3, 75}
LONGEST = 60
SECRET = "the tests keep no secrets"


class Broken(Exception):
    """A promise that was not kept."""


class Run:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


def run(command, folder, environment=None, documented=DOCUMENTED):
    """Runs the program, and holds it to what it promises of every run."""
    environment = {**os.environ, "TESSERA_SECRET": SECRET, "RUST_BACKTRACE": "0", **(environment or {})}
    environment.pop("TESSERA_ENGINE", None)
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=LONGEST, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise Broken(f"hangs: {LONGEST} s") from None
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    for word in ("panicked", "internal error", "overflow its stack"):
        if word in err or word in out:
            raise Broken(f"{word}: {err.strip()[-400:]}")
    if documented and done.returncode not in documented:
        raise Broken(f"exit code {done.returncode}: {err.strip()[-400:]}")
    if len(err) > 1 << 20:
        raise Broken(f"{len(err)} bytes of messages")
    return Run(done.returncode, out, err)


def tree(folder):
    """The files below a folder, each with what changes when somebody writes it."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in files + folders:
            path = os.path.join(place, name)
            stat = os.lstat(path)
            found[os.path.relpath(path, folder)] = (stat.st_size, stat.st_mtime_ns) if name in files else None
    return found


def trials(name, count, seed, one, keep=None):
    """Runs `one(random, folder)`, which gives a word for what happened, `count` times, and prints the words. Gives the number of
    broken promises. The seed of a trial is printed with what it broke: `--only SEED` runs it again."""
    tally, broken, began = collections.Counter(), [], time.monotonic()

    def trial(number):
        own = f"{seed}.{number}" if isinstance(number, int) else number
        folder = tempfile.mkdtemp(prefix=f"hostile-{name}-")
        try:
            return own, one(random.Random(own), folder), None
        except Broken as problem:
            return own, "BROKEN", str(problem)
        finally:
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                print(folder, flush=True)

    numbers = [keep] if keep else range(count)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for own, word, problem in pool.map(trial, numbers):
                tally[word] += 1
                if problem:
                    broken.append(own)
                    print(f"{name} {own}: {problem}", flush=True)
        except KeyboardInterrupt:
            # As long as one likes: what was done so far counts.
            pool.shutdown(wait=False, cancel_futures=True)
    words = ", ".join(f"{n} {word}" for word, n in sorted(tally.items()))
    print(f"{name}: {sum(tally.values())} trials in {time.monotonic() - began:.0f} s: {words}", flush=True)
    return len(broken)
