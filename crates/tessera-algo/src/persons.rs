//! From pairs of accounts to persons: who belongs together, and which key they keep.
//!
//! Links are taken from the strongest on, and two groups become one unless something parts them: a pair between them that cannot be one
//! person, a bridge (dense groups that hang together by few of their pairs), or too many accounts. What is parted is held, for people to
//! decide. Nothing depends on the order in which links or accounts come.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Two accounts, by their numbers, and what was found of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// One account.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// Order of strength.
    pub weight: i64,
    /// Whether they are one person, if nothing parts them.
    pub joins: bool,
    /// Whether they cannot be one person.
    pub parts: bool,
}

/// Why a link that joins did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// They, or accounts that belong to them, cannot be one person.
    Contradiction,
    /// It joins dense groups that hardly anything else joins.
    Bridge,
    /// There would be too many accounts.
    TooLarge,
}

/// Accounts from which on a group is dense.
const DENSE: usize = 3;

/// The connected components over the links that join: of each account, the smallest number in its component.
#[must_use]
pub fn components(accounts: usize, links: &[Link]) -> Vec<usize> {
    let mut up: Vec<usize> = (0..accounts).collect();
    for link in links.iter().filter(|l| l.joins) {
        let (a, b) = (root(&mut up, link.a), root(&mut up, link.b));
        up[a.max(b)] = a.min(b);
    }
    (0..accounts).map(|account| root(&mut up, account)).collect()
}

fn root(up: &mut [usize], mut at: usize) -> usize {
    while up[at] != at {
        up[at] = up[up[at]];
        at = up[at];
    }
    at
}

/// The persons: of each account the smallest number among its person's, and of each link why it was held, if it was.
#[must_use]
pub fn persons(accounts: usize, links: &[Link], largest: usize) -> (Vec<usize>, Vec<Option<Held>>) {
    let mut of: Vec<usize> = (0..accounts).collect();
    let mut members: Vec<Vec<usize>> = (0..accounts).map(|account| vec![account]).collect();
    // Of each account, with whom it is joined or parted.
    let mut near: HashMap<usize, Vec<(usize, bool)>> = HashMap::new();
    for link in links.iter().filter(|l| l.joins || l.parts) {
        near.entry(link.a).or_default().push((link.b, link.parts));
        near.entry(link.b).or_default().push((link.a, link.parts));
    }
    let mut order: Vec<usize> = (0..links.len()).filter(|at| links[*at].joins).collect();
    order.sort_by_key(|at| {
        let link = &links[*at];
        (std::cmp::Reverse(link.weight), link.a.min(link.b), link.a.max(link.b))
    });
    let mut held = vec![None; links.len()];
    for at in order {
        let link = &links[at];
        let (a, b) = (of[link.a].min(of[link.b]), of[link.a].max(of[link.b]));
        if a == b {
            continue;
        }
        let (mut joined, mut parted) = (BTreeSet::new(), false);
        for member in &members[b] {
            for (other, parts) in near.get(member).into_iter().flatten().filter(|(other, _)| of[*other] == a) {
                parted |= parts;
                if !parts {
                    joined.insert((*member, *other));
                }
            }
        }
        let (sizes, pairs) = ((members[a].len(), members[b].len()), members[a].len() * members[b].len());
        held[at] = match () {
            () if parted => Some(Held::Contradiction),
            () if sizes.0.min(sizes.1) >= DENSE && joined.len() * 3 < pairs => Some(Held::Bridge),
            () if sizes.0 + sizes.1 > largest => Some(Held::TooLarge),
            () => None,
        };
        if held[at].is_none() {
            let moved = std::mem::take(&mut members[b]);
            moved.iter().for_each(|member| of[*member] = a);
            members[a].extend(moved);
        }
    }
    // A weaker link may have joined what a stronger one could not.
    for (held, link) in held.iter_mut().zip(links) {
        if of[link.a] == of[link.b] {
            *held = None;
        }
    }
    (of, held)
}

/// What an account was before tonight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// The customer's key.
    pub key: String,
    /// The night on which that key was given first, as text that sorts by time.
    pub since: String,
}

/// An account that may change its customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its key.
    pub key: String,
    /// What it was, if it was there.
    pub before: Option<Before>,
    /// How much was done with it: decides who keeps a key on a split.
    pub activity: u64,
}

/// The key that each person keeps, with its night; none for a person that is new. On a split the part with the most activity keeps the key, on a
/// merge the key with the longest history survives; ties go to the smaller key.
#[must_use]
pub fn keep_keys(persons: &[Vec<usize>], accounts: &[Account]) -> Vec<Option<Before>> {
    // Of each key the parts: activity and smallest account key, by person.
    let mut parts: HashMap<&str, BTreeMap<usize, (u64, &str)>> = HashMap::with_capacity(accounts.len());
    let mut since: HashMap<&str, &str> = HashMap::with_capacity(accounts.len());
    for (person, members) in persons.iter().enumerate() {
        for account in members.iter().map(|at| &accounts[*at]) {
            let Some(before) = &account.before else { continue };
            let part = parts.entry(&before.key).or_default().entry(person).or_insert((0, &account.key));
            part.0 += account.activity;
            part.1 = part.1.min(&account.key);
            let first = since.entry(&before.key).or_insert(&before.since);
            *first = (*first).min(&before.since);
        }
    }
    let mut kept: Vec<Option<Before>> = vec![None; persons.len()];
    for (key, parts) in parts {
        let best = parts.into_iter().min_by_key(|(_, (activity, first))| (std::cmp::Reverse(*activity), *first));
        let Some((person, _)) = best else { continue };
        let mine = Before { key: key.to_owned(), since: since[key].to_owned() };
        let older = kept[person].as_ref().is_none_or(|other| (&mine.since, &mine.key) < (&other.since, &other.key));
        if older {
            kept[person] = Some(mine);
        }
    }
    kept
}

/// The key of each person: the one it keeps, or of a new person the smallest key of its accounts that nobody has; none, if somebody has
/// each of them.
#[must_use]
pub fn keys(persons: &[Vec<usize>], accounts: &[Account], kept: &[Option<Before>]) -> Vec<Option<String>> {
    let taken: HashSet<&str> = kept.iter().flatten().map(|k| k.key.as_str()).collect();
    let new = |members: &Vec<usize>| {
        let free = members.iter().map(|at| accounts[*at].key.as_str()).filter(|key| !taken.contains(key));
        free.min().map(str::to_owned)
    };
    persons
        .iter()
        .zip(kept)
        .map(|(members, kept)| match kept {
            Some(kept) => Some(kept.key.clone()),
            None => new(members),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joins(a: usize, b: usize, weight: i64) -> Link {
        Link { a, b, weight, joins: true, parts: false }
    }

    fn parts(a: usize, b: usize) -> Link {
        Link { a, b, weight: 0, joins: false, parts: true }
    }

    #[test]
    fn an_account_between_two_people_goes_to_the_nearer() {
        // 1 looks like 0 and like 2, who are two.
        let links = [joins(0, 1, 5), joins(1, 2, 9), parts(0, 2)];
        let (of, held) = persons(3, &links, 50);
        assert_eq!((of, held), (vec![0, 1, 1], vec![Some(Held::Contradiction), None, None]));
    }

    #[test]
    fn a_bridge_between_dense_groups_is_held() {
        let mut links =
            vec![joins(0, 1, 9), joins(0, 2, 9), joins(1, 2, 9), joins(3, 4, 9), joins(3, 5, 9), joins(4, 5, 9)];
        links.push(joins(2, 3, 7));
        let (of, held) = persons(6, &links, 50);
        assert_eq!((of, held[6]), (vec![0, 0, 0, 3, 3, 3], Some(Held::Bridge)));
        links.extend([joins(1, 3, 6), joins(0, 5, 6)]);
        assert_eq!(persons(6, &links, 50).0, [0; 6]);
        assert_eq!(persons(6, &links, 5).1[6], Some(Held::TooLarge));
    }

    fn account(key: &str, before: Option<(&str, &str)>, activity: u64) -> Account {
        let before = before.map(|(key, since)| Before { key: key.into(), since: since.into() });
        Account { key: key.into(), before, activity }
    }

    #[test]
    fn the_longest_history_survives_a_merge() {
        let accounts = [account("b", Some(("b", "2025-01-01")), 0), account("a", Some(("a", "2025-02-01")), 9)];
        let kept = keep_keys(&[vec![0, 1]], &accounts);
        assert_eq!(keys(&[vec![0, 1]], &accounts, &kept), [Some("b".into())]);
    }

    #[test]
    fn the_busiest_part_keeps_the_key_on_a_split() {
        let accounts = [account("a", Some(("a", "1")), 2), account("b", Some(("a", "1")), 3)];
        let apart = [vec![0], vec![1]];
        let kept = keep_keys(&apart, &accounts);
        // The other cannot be `a`, which is its own key, since somebody else is.
        assert_eq!(keys(&apart, &accounts, &kept), [None, Some("a".into())]);
        // Together again, and apart with as much activity: the smaller account key.
        let accounts = [account("a", Some(("a", "1")), 3), account("b", Some(("a", "1")), 3)];
        let kept = keep_keys(&apart, &accounts);
        assert_eq!(keys(&apart, &accounts, &kept), [Some("a".into()), Some("b".into())]);
    }

    #[test]
    fn a_part_that_joins_others_brings_no_key_unless_it_is_the_busiest() {
        let accounts =
            [account("a", Some(("a", "1")), 5), account("b", Some(("a", "1")), 1), account("c", Some(("c", "2")), 1)];
        let persons = [vec![0], vec![1, 2]];
        let kept = keep_keys(&persons, &accounts);
        assert_eq!(keys(&persons, &accounts, &kept), [Some("a".into()), Some("c".into())]);
    }

    proptest! {
        #[test]
        fn no_order_matters(
            pairs in proptest::collection::vec((0_usize..9, 0_usize..9, 0_i64..5, any::<bool>(), any::<bool>()), 0..30),
            seed in any::<u64>(),
        ) {
            let mut links: Vec<Link> = pairs
                .into_iter()
                .filter(|(a, b, ..)| a != b)
                .map(|(a, b, weight, joins, parts)| Link { a: a.min(b), b: a.max(b), weight, joins, parts })
                .collect();
            links.sort_by_key(|l| (l.a, l.b));
            links.dedup_by_key(|l| (l.a, l.b));
            let (of, _) = persons(9, &links, 4);
            // What joins nothing is nobody's, and nobody is with whom it cannot be.
            let within = components(9, &links);
            for (account, person) in of.iter().enumerate() {
                prop_assert_eq!(within[account], within[*person]);
                prop_assert!(of.iter().filter(|p| *p == person).count() <= 4);
            }
            for link in links.iter().filter(|l| l.parts) {
                prop_assert!(of[link.a] != of[link.b]);
            }
            let len = links.len().max(1) as u64;
            let mut shuffled = links.clone();
            shuffled.sort_by_key(|l| (l.a as u64 * 31 + l.b as u64).wrapping_mul(seed | 1) % len);
            shuffled.iter_mut().filter(|l| l.weight % 2 == 0).for_each(|l| std::mem::swap(&mut l.a, &mut l.b));
            prop_assert_eq!(persons(9, &shuffled, 4).0, of);
        }

        /// Ten nights of merging and splitting: a key is of one person alone, whoever keeps it had it, and who is left alone by all keeps it.
        #[test]
        fn keys_persist(nights in proptest::collection::vec(proptest::collection::vec(0_usize..5, 8), 1..10)) {
            let mut accounts: Vec<Account> = (0..8).map(|i| account(&format!("k{i}"), None, (i as u64 * 7) % 5)).collect();
            for (night, groups) in nights.iter().enumerate() {
                let mut by: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
                groups.iter().enumerate().for_each(|(account, group)| by.entry(*group).or_default().push(account));
                let persons: Vec<Vec<usize>> = by.into_values().collect();
                let kept = keep_keys(&persons, &accounts);
                let made = keys(&persons, &accounts, &kept);
                let now: Vec<String> = made
                    .iter()
                    .enumerate()
                    .map(|(person, key)| key.clone().unwrap_or_else(|| format!("made{night}-{person}")))
                    .collect();
                prop_assert_eq!(now.iter().collect::<BTreeSet<_>>().len(), now.len());
                for (members, (key, kept)) in persons.iter().zip(now.iter().zip(&kept)) {
                    let had: BTreeSet<_> = members.iter().filter_map(|m| accounts[*m].before.as_ref()).map(|b| &b.key).collect();
                    prop_assert_eq!(kept.is_some(), kept.as_ref().is_some_and(|k| had.contains(&k.key)));
                    let alone = had.len() == 1 && had.iter().all(|key| {
                        (0..8).filter(|a| accounts[*a].before.as_ref().is_some_and(|b| &b.key == *key)).all(|a| members.contains(&a))
                    });
                    prop_assert!(!alone || had.contains(key));
                }
                let since = format!("{night:02}");
                for (members, (key, kept)) in persons.iter().zip(now.iter().zip(&kept)) {
                    for member in members {
                        let since = kept.as_ref().map_or(since.clone(), |k| k.since.clone());
                        accounts[*member].before = Some(Before { key: key.clone(), since });
                    }
                }
            }
        }
    }
}
