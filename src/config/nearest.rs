//! The nearest known name to one that nobody knows: what a typing error most likely meant.

/// Names longer than this are never near to anything; it also bounds the work for one name.
const NAME_CHARS_MAX: usize = 80;

/// The candidate with the fewest typing errors from `typed`, if there are few enough of them; else
/// one that only lacks, or has too much of, a last part (`max_body` for `max_body_mb`).
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = typed.to_lowercase();
    let typed: Vec<char> = lower.chars().collect();
    if typed.len() > NAME_CHARS_MAX {
        return None;
    }
    let most = 1 + typed.len() / 4;
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let errors = distance(&typed, candidate);
            let near = errors <= most || extends(candidate, &lower) || extends(&lower, candidate);
            near.then_some((errors, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Whether `long` is `short` and a further part behind `_`.
fn extends(long: &str, short: &str) -> bool {
    long.strip_prefix(short)
        .is_some_and(|rest| rest.starts_with('_'))
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(typed: &[char], candidate: &str) -> usize {
    let candidate: Vec<char> = candidate.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=candidate.len()).collect();
    for (row, &left) in typed.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, &right) in candidate.iter().enumerate() {
            let replaced = last[column] + usize::from(left != right);
            let mut best = replaced.min(last[column + 1] + 1).min(next[column] + 1);
            let swapped =
                row > 0 && column > 0 && left == candidate[column - 1] && typed[row - 1] == right;
            if swapped {
                best = best.min(before[column - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut last, next);
    }
    last[candidate.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_understood() {
        let names = ["mem_mb", "max_mb", "runtime_sec", "procs"];
        let guess = |typed| nearest(typed, names);
        assert_eq!(guess("men_mb"), Some("mem_mb"));
        assert_eq!(guess("mme_mb"), Some("mem_mb"));
        assert_eq!(guess("Procs"), Some("procs"));
        assert_eq!(guess("runtime_secs"), Some("runtime_sec"));
        assert_eq!(guess("runtime"), Some("runtime_sec"));
        assert_eq!(guess("procs_max_ever"), Some("procs"));
        assert_eq!(guess("colour"), None);
        assert_eq!(guess(&"m".repeat(100_000)), None);
    }

    #[test]
    fn distances() {
        let of = |typed: &str, candidate| distance(&typed.chars().collect::<Vec<_>>(), candidate);
        assert_eq!(of("", "abc"), 3);
        assert_eq!(of("abc", ""), 3);
        assert_eq!(of("ca", "ac"), 1);
        assert_eq!(of("kitten", "sitting"), 3);
    }
}
