//! Which of several sums may be told beside what is known already, so that no sum of few people follows.
//!
//! Sums are linear in unknowns: what some people add who were in one segment and are in another. A secret follows if it is in the span of
//! what is known and told (cell suppression, Cox 1980). Sums are told one after the other, those of most people first, each only if no
//! secret follows with it.

/// A sum of unknowns, each with its factor.
pub(crate) type Linear = Vec<(usize, i64)>;

/// What is to be told, and what must not follow.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// How many unknowns there are.
    pub unknowns: usize,
    /// Sums that are known already.
    pub known: Vec<Linear>,
    /// Sums that must not follow; one that does from what is known is none any more.
    pub secret: Vec<Linear>,
    /// Sums that may be told, and the people behind each; none of them, if it must not be.
    pub sums: Vec<(Linear, Option<i64>)>,
    /// Sums by number that add up to something known: those that are not told are of nobody or of enough people together. Each group
    /// within is of different people, so that together they are of as many as the largest.
    pub together: Vec<Vec<Vec<(usize, i64)>>>,
}

/// Arithmetic modulo this prime finds the same spans as that of fractions, but for chances of one in it.
const PRIME: i64 = (1 << 31) - 1;

/// Which of the sums are told.
pub(crate) fn told(asked: &Asked, k: i64) -> Vec<bool> {
    let dense = |sum: &Linear| {
        let mut row = vec![0; asked.unknowns];
        for (at, factor) in sum {
            row[*at] = (row[*at] + factor).rem_euclid(PRIME);
        }
        row
    };
    let mut basis = Basis::default();
    for sum in &asked.known {
        if let Some(next) = basis.reduced(dense(sum)) {
            basis.0.push(next);
        }
    }
    let secret = asked.secret.iter().filter_map(|sum| basis.reduced(dense(sum)).map(|(_, row)| row));
    let mut secrets: Vec<Vec<i64>> = secret.collect();
    let mut told = vec![false; asked.sums.len()];
    let mut order: Vec<(usize, i64)> =
        asked.sums.iter().enumerate().filter_map(|(at, (_, people))| Some((at, (*people)?))).collect();
    order.sort_by_key(|(at, people)| (-people, *at));
    for (at, _) in order {
        told[at] = true;
        let of_few = asked.together.iter().any(|line| {
            let of =
                |group: &Vec<(usize, i64)>| group.iter().filter(|(sum, _)| !told[*sum]).map(|(_, n)| n).sum::<i64>();
            let left = line.iter().map(of).max().unwrap_or(0);
            left > 0 && left < k && line.iter().flatten().any(|(sum, _)| *sum == at)
        });
        let next = basis.reduced(dense(&asked.sums[at].0));
        let follows = next.as_ref().is_some_and(|(pivot, row)| {
            secrets.iter().any(|secret| {
                let by = secret[*pivot];
                by != 0 && secret.iter().zip(row).all(|(s, v)| *s == by * v % PRIME)
            })
        });
        if of_few || follows {
            told[at] = false;
            continue;
        }
        if let Some((pivot, row)) = next {
            for secret in &mut secrets {
                subtract(secret, &row, pivot);
            }
            basis.0.push((pivot, row));
        }
    }
    told
}

/// Rows that are 0 where one before them leads, each with where it leads.
#[derive(Default)]
struct Basis(Vec<(usize, Vec<i64>)>);

impl Basis {
    /// What is left of a row, with 1 where it leads; nothing, if it follows.
    fn reduced(&self, mut row: Vec<i64>) -> Option<(usize, Vec<i64>)> {
        self.0.iter().for_each(|(pivot, other)| subtract(&mut row, other, *pivot));
        let pivot = row.iter().position(|v| *v != 0)?;
        let inverse = power(row[pivot], PRIME - 2);
        row.iter_mut().for_each(|v| *v = *v * inverse % PRIME);
        Some((pivot, row))
    }
}

/// Takes a row that leads at `pivot` away, so that nothing is left there.
fn subtract(row: &mut [i64], other: &[i64], pivot: usize) {
    let by = row[pivot];
    if by != 0 {
        row.iter_mut().zip(other).for_each(|(v, o)| *v = (*v - by * o).rem_euclid(PRIME));
    }
}

fn power(base: i64, mut exponent: i64) -> i64 {
    let (mut result, mut base) = (1, base % PRIME);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result * base % PRIME;
        }
        base = base * base % PRIME;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A table of cells by row and column, whose row and column sums are known.
    fn table(people: &[i64], columns: usize, k: i64) -> Asked {
        let rows = people.len() / columns;
        let row = |r: usize| (0..columns).map(|c| (r * columns + c, 1)).collect::<Linear>();
        let column = |c: usize| (0..rows).map(|r| (r * columns + c, 1)).collect::<Linear>();
        let lines: Vec<Linear> = (0..rows).map(row).chain((0..columns).map(column)).collect();
        let few = |n: i64| n > 0 && n < k;
        Asked {
            unknowns: people.len(),
            secret: (0..people.len()).filter(|at| few(people[*at])).map(|at| vec![(at, 1)]).collect(),
            sums: people.iter().enumerate().map(|(at, n)| (vec![(at, 1)], Some(*n).filter(|n| !few(*n)))).collect(),
            together: lines.iter().map(|line| vec![line.iter().map(|(at, _)| (*at, people[*at])).collect()]).collect(),
            known: lines,
        }
    }

    #[test]
    fn what_is_hidden_of_one_row_is_hidden_of_another() {
        let people = [3, 50, 90, 60, 70, 80];
        assert_eq!(told(&table(&people, 3, 5), 5), [false, false, true, false, false, true]);
    }

    #[test]
    fn nothing_is_hidden_where_nobody_is_few() {
        assert_eq!(told(&table(&[5, 50, 0, 60], 2, 5), 5), [true; 4]);
    }

    #[test]
    fn two_rests_of_few_people_are_hidden_with_a_third() {
        let people = [2, 2, 40, 30];
        let mut asked = table(&people, 4, 5);
        asked.known.truncate(1);
        asked.together.truncate(1);
        assert_eq!(told(&asked, 5), [false, false, true, false]);
        // Those who came may be those who behave otherwise: of two each, two in all.
        let people = [4, 4, 40, 30];
        let mut asked = table(&people, 4, 5);
        asked.known.truncate(1);
        asked.together = vec![vec![vec![(0, 4), (2, 40), (3, 30)], vec![(1, 4), (2, 40), (3, 30)]]];
        assert_eq!(told(&asked, 5), [false, false, true, false]);
    }

    proptest! {
        /// Whatever is told, for every cell of few there is another table with the same told cells and sums.
        #[test]
        fn no_cell_of_few_follows(people in proptest::collection::vec(0..40_i64, 12)) {
            let asked = table(&people, 4, 5);
            let told = told(&asked, 5);
            // Fractions: the rank of what is known and told, with a secret and without.
            let rank = |extra: Option<&Linear>| {
                let known = asked.known.iter().chain(asked.sums.iter().zip(&told).filter(|(_, told)| **told).map(|((sum, _), _)| sum));
                let mut rows: Vec<Vec<f64>> = known.chain(extra).map(|sum| {
                    let mut row = vec![0.0; 12];
                    sum.iter().for_each(|(at, factor)| row[*at] = *factor as f64);
                    row
                }).collect();
                let mut rank = 0;
                for column in 0..12 {
                    let best = (rank..rows.len()).max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs()));
                    let Some(best) = best.filter(|row| rows[*row][column].abs() > 1e-9) else { continue };
                    rows.swap(rank, best);
                    let pivot = rows[rank].clone();
                    for row in rows.iter_mut().skip(rank + 1) {
                        let by = row[column] / pivot[column];
                        row.iter_mut().zip(&pivot).for_each(|(v, p)| *v -= by * p);
                    }
                    rank += 1;
                }
                rank
            };
            for secret in &asked.secret {
                prop_assert!(rank(Some(secret)) > rank(None), "{people:?} {told:?} {secret:?}");
            }
        }
    }
}
