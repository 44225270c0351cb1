#!/usr/bin/env python3
"""table.py RESULTS.jsonl SCALE INPUT: medians, and ours as a ratio of each peer's."""
import json, statistics, sys

file, scale, kind = sys.argv[1:4]
runs = [r for r in map(json.loads, open(file)) if r["scale"] == scale and r["input"] == kind and "failed" not in r]
median = lambda peer, get: statistics.median(get(r) for r in runs if r["peer"] == peer)
inertia = lambda r: r["quality"].get("inertia") or 0.0
peers = sorted({r["peer"] for r in runs}, key=lambda p: median(p, lambda r: r["total_s"]))
mine = [median("tessera", g) for g in (lambda r: r["total_s"], lambda r: r["peak_rss_mb"], inertia)]
print(f"{scale}, {kind}: medians of {sum(r['peer'] == 'tessera' for r in runs)} runs each\n")
print("| | seconds | ours / theirs | peak MB | ours / theirs | inertia |\n|---|--:|--:|--:|--:|--:|")
for peer in peers:
    t, m, i = (median(peer, g) for g in (lambda r: r["total_s"], lambda r: r["peak_rss_mb"], inertia))
    print(f"| {peer} | {t:.1f} | {mine[0] / t:.2f} | {m:,.0f} | {mine[1] / m:.2f} | {i:,.0f} |")
print("\nwhere the time goes:")
for peer in peers:
    last = [r for r in runs if r["peer"] == peer][-1]
    print(f"  {peer}: {last['stages']}")
