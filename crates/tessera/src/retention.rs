//! Which nights are retained.

use std::collections::{BTreeMap, BTreeSet};

use tessera_lake::{History, SnapshotRecord};

/// What is to be retained; all other nights expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest published nights.
    pub nights: usize,
    /// And of so many of the newest months the last published night.
    pub months: usize,
}

impl Keep {
    /// The snapshots of the nights that are not retained, oldest first, among them the held and the retracted.
    pub fn expire<'a>(&self, history: &'a History) -> Vec<&'a SnapshotRecord> {
        let nights: Vec<&str> = history.current().map(|r| r.content.as_of.as_str()).collect();
        // A night that was held after the last published one is still being worked at.
        let Some(first) = nights.iter().rev().take(self.nights.max(1)).next_back() else { return Vec::new() };
        let last_of_month: BTreeMap<&str, &str> = nights.iter().map(|night| (&night[..7], *night)).collect();
        let monthly: BTreeSet<&str> = last_of_month.into_values().rev().take(self.months).collect();
        let stays = |night: &str| night >= *first || monthly.contains(night);
        history.retained().filter(|r| !stays(&r.content.as_of)).collect()
    }
}

#[cfg(test)]
mod tests {
    use tessera_lake::{SnapshotContent, SnapshotState};

    use super::*;

    fn history(rows: &[(&str, &str, SnapshotState)]) -> History {
        let rows = rows.iter().enumerate().map(|(at, (id, as_of, state))| {
            let content = serde_json::json!({
                "run_id": id, "as_of": as_of, "state": state, "parent": "", "tables": {}, "stages": {}, "inputs": [],
                "sources": "", "project_hash": "", "project": "", "code_version": "", "code_commit": "", "secret": "",
                "seed": 0, "gates": [], "evidence": {}, "why": "", "recorded_by": "", "published_at": ""
            });
            let mut content: SnapshotContent = serde_json::from_value(content).expect("a row");
            if *state == SnapshotState::Expired || *state == SnapshotState::Retracted {
                content.parent = id.trim_start_matches('-').to_owned();
            }
            SnapshotRecord {
                snapshot_id: (*id).to_owned(),
                sequence: i64::try_from(at).expect("few"),
                content,
                previous_hash: String::new(),
                hash: String::new(),
            }
        });
        History::new(rows.collect())
    }

    #[test]
    fn the_newest_nights_and_month_ends_stay() {
        use SnapshotState::{Expired, Held, Published, Retracted};
        let history = history(&[
            ("a", "2025-11-29", Published),
            ("b", "2025-11-30", Published),
            ("c", "2025-12-30", Published),
            ("d", "2025-12-31", Published),
            ("d-again", "2025-12-31", Published),
            ("e", "2026-01-01", Published),
            ("f", "2026-01-02", Held),
            ("g", "2026-01-03", Published),
            ("h", "2026-01-04", Published),
            ("-h", "2026-01-04", Retracted),
            ("i", "2026-01-05", Held),
            ("-a", "2025-11-29", Expired),
        ]);
        let expire = |nights, months| -> Vec<&str> {
            Keep { nights, months }.expire(&history).iter().map(|r| r.snapshot_id.as_str()).collect()
        };
        // What was expired is not expired again; of nights that stay everything stays, of others nothing.
        assert_eq!(expire(1, 0), ["b", "c", "d", "d-again", "e", "f"]);
        assert_eq!(expire(2, 0), ["b", "c", "d", "d-again"]);
        assert_eq!(expire(1, 2), ["b", "c", "e", "f"]);
        assert_eq!(expire(1, 3), ["c", "e", "f"]);
        assert_eq!(expire(99, 0), Vec::<&str>::new());
    }

    #[test]
    fn where_nothing_is_published_nothing_expires() {
        let history = history(&[("a", "2025-11-29", SnapshotState::Held)]);
        assert!(Keep { nights: 1, months: 0 }.expire(&history).is_empty());
    }
}
