"""Attacks on the program: hostile.py TESSERA [ATTACK…] [--trials N] [--seed S] [--only SEED].

Attacks: sources (mutated files), formats (other ways of exporting the same, mutated), lakes (damaged files of a lake), sql (queries that want more than to read), figures (what follows from
published ones of few people), changes (the same of changes of KPIs), causes (whom named causes are of), kills (nights that end at a random system call). Without one, all of them. A trial that breaks a promise is printed with its seed; `--only` runs it again and keeps
its folder."""

import argparse
import os
import sys
import tempfile

from causes import Causes
from changes import Changes
from figures import Figures
from formats import Formats
from kills import Kills
from lakes import Lake
from sources import Shop
from sql import Window
from trials import trials

ATTACKS = {
    "sources": (Shop, 1000), "formats": (Formats, 1000), "lakes": (Lake, 1000), "sql": (Window, 1000), "figures": (Figures, 100), "changes": (Changes, 100), "causes": (Causes, 20), "kills": (Kills, 200),
}

parser = argparse.ArgumentParser(usage=__doc__)
parser.add_argument("tessera")
parser.add_argument("attacks", nargs="*", choices=[*ATTACKS, []])
parser.add_argument("--trials", type=int, help="of each attack (1000; 100 nights of figures and changes, 20 of causes, 200 kills)")
parser.add_argument("--share", type=float, default=1.0, help="of these numbers")
parser.add_argument("--seed", default="1")
parser.add_argument("--only", metavar="SEED")
arguments = parser.parse_args()
tessera = os.path.realpath(arguments.tessera)
broken = 0
for name in arguments.attacks or ATTACKS:
    target, count = ATTACKS[name]
    with tempfile.TemporaryDirectory(prefix=f"hostile-{name}-base-") as folder:
        attack = target(tessera, folder).attack
        count = int((arguments.trials or count) * arguments.share)
        broken += trials(name, count, arguments.seed, attack, arguments.only)
print(f"hostile: {broken} promises broken", flush=True)
sys.exit(1 if broken else 0)
