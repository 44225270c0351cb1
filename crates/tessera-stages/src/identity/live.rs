//! Whose person may be another tonight: who hangs together with an account that changed. All others are what they were.

use std::collections::{BTreeSet, HashMap, HashSet};

use tessera_algo::persons::{self, Link};

use super::{
    Before, Changed,
    pairs::{self, Pair, sorted},
    people::{self, Row},
};
use crate::{Night, StageError, rows};

/// Of more accounts that changed, everybody is asked.
const MANY: u64 = 100_000;

/// The accounts whose person may be another.
pub(super) struct Live {
    /// Their keys, in order.
    pub accounts: Vec<String>,
    /// What they were on the parent night, as far as they are still there.
    pub then: HashMap<String, Row>,
    /// The customers that they were, those of accounts that are gone among them.
    pub customers: BTreeSet<String>,
}

impl Live {
    /// Who hangs together, by the pairs of the parent night and those that were `found` tonight, with an account that changed, is gone, or was
    /// decided on by people; and who has, or had, a customer's key in common with one. None, where that is not worth asking.
    pub(super) async fn of(
        night: &Night<'_>,
        before: Before<'_>,
        changed: &Changed,
        found: &[Pair],
    ) -> Result<Option<Self>, StageError> {
        if changed.count + rows::count(night, &changed.gone).await? > MANY {
            return Ok(None);
        }
        let query =
            "SELECT left_key, right_key, CASE WHEN reason LIKE '%decided%' THEN 1 ELSE 0 END AS decided FROM pairs";
        let edges = rows::collect(night.over(query, &[("pairs", before.pairs)]).await?).await?;
        let (lefts, rights) = (rows::texts(&edges, "left_key")?, rows::texts(&edges, "right_key")?);
        let decided = rows::integers(&edges, "decided")?;
        let mut ends: Vec<(&str, &str, bool)> = Vec::with_capacity(lefts.len() + found.len());
        for ((left, right), decided) in lefts.iter().zip(&rights).zip(decided) {
            ends.extend(left.as_deref().zip(right.as_deref()).map(|(l, r)| (l, r, decided == Some(1))));
        }
        ends.extend(found.iter().map(|pair| (pair.left.as_str(), pair.right.as_str(), true)));
        let keys = sorted(ends.iter().flat_map(|(l, r, _)| [*l, *r]));
        let number = |key: &str| keys.binary_search(&key).ok();
        let links = ends
            .iter()
            .filter_map(|(l, r, _)| Some(Link { a: number(l)?, b: number(r)?, weight: 0, joins: true, parts: false }));
        let of = persons::components(keys.len(), &links.collect::<Vec<_>>());

        // Crowds are looked at again until everybody in them was compared (`pairs::complete`).
        let mut sizes = vec![0_u32; keys.len()];
        of.iter().for_each(|group| sizes[*group] += 1);
        let crowd = night.project.identity.largest_person.saturating_mul(4);
        let mut groups: Vec<bool> = sizes.into_iter().map(|size| size > crowd).collect();
        let mut alone: BTreeSet<String> = BTreeSet::new();
        let mut mark = |key: &str| match number(key) {
            Some(n) => groups[of[n]] = true,
            None => {
                alone.insert(key.to_owned());
            }
        };
        ends.iter().filter(|(.., marked)| *marked).for_each(|(key, ..)| mark(key));
        for frame in [&changed.frame, &changed.gone] {
            let batch = rows::collect(frame.clone()).await?;
            rows::texts(&batch, "account_key")?.iter().flatten().for_each(|key| mark(key));
        }
        night.project.identity.decided.iter().for_each(|d| [&d.one, &d.other].into_iter().for_each(|key| mark(key)));
        loop {
            let grouped = keys.iter().enumerate().filter(|(n, _)| groups[of[*n]]).map(|(_, key)| *key);
            let accounts = sorted(grouped.chain(alone.iter().map(String::as_str)));
            let (then, gone) = people::earlier_of(night, before.identity, &accounts).await?;
            let known: HashSet<&str> = accounts.iter().copied().collect();
            let others: Vec<String> =
                then.keys().chain(gone.keys()).filter(|k| !known.contains(k.as_str())).cloned().collect();
            if others.is_empty() {
                let accounts = accounts.into_iter().map(str::to_owned).collect();
                let customers = then.values().chain(gone.values()).map(|row| row.customer.clone()).collect();
                return Ok(Some(Self { accounts, then, customers }));
            }
            for key in others {
                match number(&key) {
                    Some(n) => groups[of[n]] = true,
                    None => {
                        alone.insert(key);
                    }
                }
            }
        }
    }

    /// The pairs of the parent night among these accounts, of which neither changed.
    pub(super) async fn kept(
        &self,
        night: &Night<'_>,
        before: Before<'_>,
        changed: &Changed,
    ) -> Result<Vec<Pair>, StageError> {
        let mine = pairs::keyed(night, self.accounts.iter().map(String::as_str))?;
        let query = "SELECT p.* FROM mine JOIN pairs AS p ON p.left_key = mine.account_key";
        let theirs = night.over(query, &[("mine", &mine), ("pairs", before.pairs)]).await?;
        pairs::kept(night, &theirs, changed).await
    }
}
