//! `jaro_winkler(a, b)`: the similarity of two texts, 0 to 1 (Winkler 1990; prefix of at most four, factor 0.1). `edits_within(a, b, n)`:
//! whether at most `n` letters put in, left out, changed or swapped with their neighbour make one of the other (optimal string
//! alignment; Damerau 1964).

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{AsArray, BooleanArray, Float64Array},
        datatypes::{DataType, Int64Type},
    },
    logical_expr::ScalarUDF,
};

use super::{arity, cast, stateless};

pub(super) fn jaro_winkler_udf() -> ScalarUDF {
    stateless("jaro_winkler", DataType::Float64, |args| {
        arity("jaro_winkler", args, 2)?;
        let (a, b) = (cast(&args[0], &DataType::Utf8View)?, cast(&args[1], &DataType::Utf8View)?);
        let pairs = a.as_string_view().iter().zip(b.as_string_view());
        Ok(Arc::new(pairs.map(|(a, b)| Some(jaro_winkler(a?, b?))).collect::<Float64Array>()))
    })
}

pub(super) fn edits_within_udf() -> ScalarUDF {
    stateless("edits_within", DataType::Boolean, |args| {
        arity("edits_within", args, 3)?;
        let (a, b) = (cast(&args[0], &DataType::Utf8View)?, cast(&args[1], &DataType::Utf8View)?);
        let most = cast(&args[2], &DataType::Int64)?;
        let pairs = a.as_string_view().iter().zip(b.as_string_view()).zip(most.as_primitive::<Int64Type>());
        let within = |((a, b), most): ((Option<&str>, Option<&str>), Option<i64>)| {
            Some(edits_within(a?, b?, usize::try_from(most?).unwrap_or(0)))
        };
        Ok(Arc::new(pairs.map(within).collect::<BooleanArray>()))
    })
}

/// Of ASCII texts a band of the table of distances, ended at the first rows beyond reach; of others by the library.
fn edits_within(a: &str, b: &str, most: usize) -> bool {
    const FAR: u8 = u8::MAX / 2;
    if a == b {
        return true;
    }
    let (a, b) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if !a.is_ascii() || !b.is_ascii() || most > 3 || b.len() > 64 {
        return strsim::osa_distance(a, b) <= most;
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if b.len() - a.len() > most {
        return false;
    }
    // Three rows of distances between beginnings, by the length of that of b.
    let (mut before, mut last, mut row) = ([FAR; 66], [FAR; 66], [FAR; 66]);
    let mut least_last = 0;
    (0..=most.min(b.len())).for_each(|j| last[j] = j as u8);
    for i in 1..=a.len() {
        let (from, to) = (i.saturating_sub(most), (i + most).min(b.len()));
        if from > 0 {
            row[from - 1] = FAR;
        }
        let mut least = FAR;
        for j in from..=to {
            let mut best = last[j] + 1;
            if j > 0 {
                best = best.min(row[j - 1] + 1).min(last[j - 1] + u8::from(a[i - 1] != b[j - 1]));
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(before[j - 2] + 1);
                }
            }
            row[j] = best.min(FAR);
            least = least.min(row[j]);
        }
        row[to + 1] = FAR;
        // A swap reaches over one row.
        if usize::from(least.min(least_last)) > most {
            return false;
        }
        least_last = least;
        (before, last, row) = (last, row, before);
    }
    usize::from(last[b.len()]) <= most
}

/// Of ASCII texts up to 64 letters without allocating, since pairs are many; of others by the library, which gives the same.
pub(super) fn jaro_winkler(a: &str, b: &str) -> f64 {
    if a == b {
        return 1.0;
    }
    if !a.is_ascii() || !b.is_ascii() || a.len() > 64 || b.len() > 64 || a.is_empty() || b.is_empty() {
        return strsim::jaro_winkler(a, b);
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let reach = (a.len().max(b.len()) / 2).saturating_sub(1);
    let (mut of_a, mut of_b) = (0_u64, 0_u64);
    for (i, letter) in a.iter().enumerate() {
        let to = (i + reach + 1).min(b.len());
        let from = i.saturating_sub(reach).min(to);
        if let Some(j) = (from..to).find(|j| of_b & (1 << j) == 0 && b[*j] == *letter) {
            of_a |= 1 << i;
            of_b |= 1 << j;
        }
    }
    let matches = of_a.count_ones();
    if matches == 0 {
        return 0.0;
    }
    let (mut rest, mut odd) = (of_b, 0_u32);
    for i in (0..a.len()).filter(|i| of_a & (1 << i) != 0) {
        let j = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        odd += u32::from(a[i] != b[j]);
    }
    let matches = f64::from(matches);
    let swapped = f64::from(odd / 2);
    let jaro = (matches / a.len() as f64 + matches / b.len() as f64 + (matches - swapped) / matches) / 3.0;
    let prefix = a.iter().zip(b).take(4).take_while(|(a, b)| a == b).count() as f64;
    if jaro > 0.7 { jaro + prefix * 0.1 * (1.0 - jaro) } else { jaro }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The table of Winkler (1990), as it is often quoted.
    #[test]
    fn published_values() {
        for (a, b, expect) in [
            ("martha", "marhta", 0.961),
            ("dixon", "dicksonx", 0.813),
            ("dwayne", "duane", 0.840),
            ("jones", "johnson", 0.832),
            ("abroms", "abrams", 0.922),
            ("shackleford", "shackelford", 0.982),
        ] {
            assert!((jaro_winkler(a, b) - expect).abs() < 0.0006, "{a} {b}: {}", jaro_winkler(a, b));
        }
    }

    #[test]
    fn slips_are_single_edits() {
        for (a, b, edits) in
            [("anna", "anan", 1), ("ca", "abc", 3), ("", "ab", 2), ("19800102", "19800201", 2), ("meyer", "mayr", 2)]
        {
            let least = (0..4).find(|n| edits_within(a, b, *n));
            assert_eq!(least, Some(edits), "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn as_many_as_the_library_counts(a in "[a-c]{0,9}", b in "[a-c]{0,9}", most in 0_usize..5) {
            prop_assert_eq!(edits_within(&a, &b, most), strsim::osa_distance(&a, &b) <= most, "{} {}", a, b);
        }

        #[test]
        fn the_same_as_the_library(a in "[a-e ]{0,12}", b in "[a-eü ]{0,12}") {
            let (ours, theirs) = (jaro_winkler(&a, &b), strsim::jaro_winkler(&a, &b));
            prop_assert!((ours - theirs).abs() < 1e-12, "{a:?} {b:?}: {ours} {theirs}");
        }
    }
}
