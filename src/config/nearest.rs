//! What somebody who mistyped a word meant.

/// Words longer than this are no typing mistakes, and comparing them would take long.
const LONGEST: usize = 64;

/// The candidate that `word` is most probably a mistyping of, letter case aside; `None` where none is near.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .filter_map(|candidate| distance(word, candidate).map(|distance| (distance, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many edits lie between the two, letter case aside; `None` where they are so many that one was hardly meant for
/// the other: more than a third of the word.
pub(super) fn distance(word: &str, candidate: &str) -> Option<usize> {
    if word.len() > LONGEST {
        return None;
    }
    let edits = strsim::osa_distance(&word.to_lowercase(), &candidate.to_lowercase());
    (edits <= (word.chars().count() / 3).max(1)).then_some(edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_a_slip_and_a_wrong_case_are_forgiven() {
        let known = ["interval", "timeout", "stale_after"];
        for (word, meant) in [("intervall", "interval"), ("tiemout", "timeout"), ("Stale-After", "stale_after")] {
            assert_eq!(nearest(word, known), Some(meant));
        }
    }

    #[test]
    fn a_word_far_from_all_of_them_is_near_to_none() {
        assert_eq!(nearest("color", ["interval", "timeout"]), None);
        assert_eq!(nearest("", ["interval"]), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), ["interval"]), None);
    }
}
