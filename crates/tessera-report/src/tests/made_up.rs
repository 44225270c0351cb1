//! A night that never was.

use crate::{Answers, Entry, EntryKind, Night};
use serde_json::{Map, Value, json};

/// A name as nobody should have it.
pub const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'</style><script>alert(1)</script>\u{202e}\u{202d}\n\r\tשלום &amp; \
    \u{0}\u{7f}e\u{301}\u{301}\u{301}\u{301}\u{301} ]]> {{7*7}} -- ; DROP TABLE kpis; very long very long very long very long \
    very long very long very long very long very long very long very long very long very long very long very long very";

/// The night.
pub fn night() -> Night {
    Night {
        as_of: "2026-01-01".into(),
        snapshot_id: "2026-01-01-abc".into(),
        project: "shop".into(),
        currency: "EUR".into(),
        timezone: "Europe/Berlin".into(),
        k: 5,
    }
}

fn kpi(i: usize) -> String {
    match i {
        0 => "revenue".into(),
        1 => "customers".into(),
        2 => "retention_rate".into(),
        _ => format!("measure_number_{i}"),
    }
}

fn unit(i: usize) -> &'static str {
    ["currency", "customers", "share", "currency per order", "orders per customer"][i % 5]
}

/// What the names mean.
pub fn catalogue(kpis: usize) -> Vec<Entry> {
    let entry = |kind, name: String, unit: &str| Entry {
        kind,
        name,
        unit: unit.into(),
        description: "What it is, in a sentence of the length that such sentences have".into(),
        headline: true,
    };
    let mut all: Vec<Entry> = (0..kpis).map(|i| entry(EntryKind::Kpi, kpi(i), unit(i))).collect();
    all.extend((0..40).map(|i| entry(EntryKind::Feature, format!("feature_{i}"), unit(i))));
    all
}

fn date(back: usize) -> String {
    let day = 400 - back;
    match day {
        400 => "2026-01-01".to_owned(),
        _ => format!("2025-{:02}-{:02}", 1 + (day - 330).min(359) / 28 % 12, 1 + (day - 330) % 28),
    }
}

/// Something uneven between 0 and 1 that is the same every time.
fn uneven(a: usize, b: usize) -> f64 {
    ((a * 7919 + b * 104_729 + 13) % 9973) as f64 / 9973.7
}

/// Answers of a night with so many segments, KPIs and nights, where everything that has a name is called this.
pub fn shop(segments: usize, kpis: usize, nights: usize, name: &str) -> Answers {
    let mut answers = Answers::new();
    let mut add = |query: &str, row: Value| {
        let Value::Object(row) = row else { unreachable!() };
        let row: Map<String, Value> = row.into_iter().filter(|(_, value)| !value.is_null()).collect();
        answers.entry(query.to_owned()).or_default().push(row);
    };
    let ids = || std::iter::once(None).chain((0..segments).map(Some));
    let earlier = |value: f64| if nights > 1 { json!(value) } else { Value::Null };
    for segment in ids() {
        for i in 0..kpis {
            let value = match (i, segment) {
                (0, None) => 1_200_000.125,
                (2, _) => uneven(i, segment.unwrap_or(77)),
                _ => (uneven(i, segment.unwrap_or(77)) * 100_000.0).round() + 0.123_456_7,
            };
            let interval = i > 1;
            let exact = if (i, segment) == (0, None) { "1200000.125000".into() } else { format!("{value:.6}") };
            add(
                "kpis",
                json!({"kpi": kpi(i), "segment": segment, "value": value, "exact": exact, "n": 500, "headline": i < 7, "state": "ok",
                    "ci_low": interval.then_some(value * 0.9), "ci_high": interval.then_some(value * 1.1),
                    "previous": if (i, segment) == (0, None) { earlier(1_000_000.0) } else { earlier(value * 0.95) }}),
            );
            if segment.is_none() || i < 2 {
                for back in 0..nights {
                    add(
                        "history",
                        json!({"as_of": date(back), "kpi": kpi(i), "segment": segment, "state": "ok",
                        "value": value * (1.0 - 0.01 * back as f64 * uneven(i, back))}),
                    );
                }
            }
        }
    }
    if nights > 1 {
        for (i, (term, exact)) in [("new", "150000.000000"), ("left", "-50000.000001"), ("behaviour", "100000.125001")]
            .into_iter()
            .enumerate()
        {
            add(
                "waterfall",
                json!({"step": i + 1, "term": term, "detail": (i == 2).then_some(name), "since": date(1), "state": "ok",
                "contribution": exact.parse::<f64>().unwrap(), "exact": exact, "before": if i == 0 { 1_000_000.0 } else { 5.0 }, "after": 1.0}),
            );
        }
        for i in 0..kpis {
            for rank in 1..=4 {
                add(
                    "causes",
                    json!({"kpi": kpi(i), "rank": rank, "since": date(1), "finding": if rank == 4 { "missing" } else { "where" },
                    "dimensions": if rank == 4 { "day=2025-12-24".to_owned() } else { format!("segment={}\u{1f}category={name}", rank % segments.max(1)) },
                    "contribution": -0.25 * rank as f64, "change": -0.1, "bootstrap_share": 0.9, "occurrences": 3, "state": "ok"}),
                );
            }
        }
    }
    for segment in 0..segments {
        add("names", json!({"segment": segment, "name": name, "fitted_on": "2025-12-01", "features": 9}));
        for feature in 0..12 {
            add(
                "profiles",
                json!({"segment": segment, "feature": format!("feature_{feature}"), "customers": 90, "mean": uneven(segment, feature) * 1000.0,
                "population_mean": 481.25, "effect_size": 4.0 * uneven(segment, feature) - 2.0}),
            );
        }
        for metric in ["stability", "share", "customers", "measurable", "actionable"] {
            add(
                "gates",
                json!({"metric": metric, "segment": segment, "value": uneven(segment, metric.len()), "threshold": 0.1, "gate": "advisory",
                "state": if uneven(segment, metric.len()) >= 0.1 { "pass" } else { "fail" }}),
            );
        }
        add("lineage", json!({"segment": segment, "parent": segment, "event": "carried", "born": "2025-01-01"}));
        for (term, detail) in [
            ("new", None),
            ("moved_in", Some("data")),
            ("moved_in", Some("refit")),
            ("moved_out", Some("data")),
            ("left", None),
        ] {
            add(
                "moves",
                json!({"segment": segment, "term": term, "detail": detail, "contribution": 12.0, "state": "ok"}),
            );
        }
    }
    add("names_before", json!({"segment": 99, "name": name}));
    add("gates", json!({"metric": "silhouette", "value": 0.3, "threshold": 0.05, "state": "pass", "gate": "required"}));
    for i in 0..30 {
        add(
            "drift",
            json!({"feature": format!("feature_{i}"), "clustered_on": i < 14, "psi": uneven(i, 3), "critical_value": 0.003, "since": "2025-12-01", "state": "changed"}),
        );
    }
    for source in ["customers", "transactions"] {
        for step in 0..20 {
            add(
                "ledger",
                json!({"source": source, "step": step, "rule": if step == 0 { "total" } else { name }, "severity": "quarantine", "failed": 5,
                "rows_in": 1000, "clean": 900, "quarantined": 50, "merged": 30, "superseded": 10, "later": 10, "came": 4,
                "amount_in": "1000.500000", "amount_clean": "-3.250000"}),
            );
        }
        add(
            "inputs",
            json!({"source": source, "feed": name, "files": 3, "file_rows": 1000, "amount": "1000.500000", "first_night": "2025-01-01",
            "last_night": "2026-01-01", "new_files": 1, "lacking": 0}),
        );
    }
    add(
        "quality",
        json!({"name": "values_gone", "source": "transactions", "value": 1, "high": 0, "state": "fail", "gate": "advisory", "told": name}),
    );
    add(
        "quality",
        json!({"name": "newest_day", "source": "transactions", "value": 2, "state": "info", "gate": "none"}),
    );
    add("quality_states", json!({"state": "pass", "gate": "required", "checks": 40}));
    for place in 1..=18 {
        add(
            "candidates",
            json!({"place": place, "algorithm": "kmeans", "feature_set": "all", "origin": "fresh", "k": 9, "silhouette": 0.2, "prediction_strength": 0.8,
            "min_size": 0.08, "objective_spread": 0.7, "score": 1.0 / place as f64, "chosen": place == 1, "reason": name}),
        );
    }
    for parameter in ["a", "b"] {
        add(
            "value_model",
            json!({"model": "bg_nbd", "parameter": parameter, "value": 1.5, "std_error": 0.1, "n": 500, "time_unit": "weeks", "chosen": true, "state": "ok", "told": name}),
        );
    }
    for tenth in std::iter::once(None).chain((1..=10).map(Some)) {
        add(
            "backtest",
            json!({"horizon": 90, "since": "2025-10-03", "tenth": tenth, "customers": 50, "predicted": 1.5, "observed": 1.4, "std_error": 0.1}),
        );
    }
    for place in 1..=60 {
        add(
            "breakdowns",
            json!({"place": place, "breakdown": if place < 30 { "uplift" } else { "response_rate" }, "dimension": "campaign", "item": format!("{name} {place}"),
            "value": 0.2, "n": 300, "versus": (place < 30).then_some(0.19), "difference": (place < 30).then_some(0.01), "low": (place < 30).then_some(-0.02),
            "high": (place < 30).then_some(0.04), "state": if place < 30 { "cannot_tell" } else { "ok" }}),
        );
    }
    for cohort in 0..14 {
        for step in 1..=(13 - cohort).max(1) {
            add(
                "cohorts",
                json!({"breakdown": "retention_curve", "item": (cohort > 0).then(|| format!("2025-{:02}", cohort % 12 + 1)), "step": step, "value": uneven(cohort, step), "n": 200, "state": "ok"}),
            );
        }
    }
    add("nights", json!({"as_of": "2026-01-01", "snapshot_id": "2026-01-01-abc", "state": "published"}));
    answers
}
