//! Whether the user ids of sandboxes are anybody else's on this machine.
//!
//! Sandboxes take ranges of [`IDS`] from `sandbox.id_base` upwards, one for each family of zygotes.
//! Files of somebody else with the same ids could be reached by code that escaped.

use crate::config::Problem;
use crate::config::problem::Origin;
use crate::host::sandboxes::FAMILIES_MAX;
use crate::sys::user_namespace::IDS;
use std::fs;

/// What systemd hands out: dynamic users, then containers.
const SYSTEMD: [(u64, u64); 2] = [(61_184, 65_519), (524_288, 1_879_048_191)];
const KEY: &str = "sandbox.id_base";

/// What is odd about this choice here.
pub fn warnings(id_base: u32, origin: &Origin) -> Vec<Problem> {
    let first = u64::from(id_base);
    let ours = (first, first + u64::from(IDS) * FAMILIES_MAX as u64 - 1);
    let mut warnings = Vec::new();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        if let Some(line) = text
            .lines()
            .find(|line| given(line).is_some_and(|r| meets(ours, r)))
        {
            let why = format!("{file} gives some of these ids away: {line}");
            warnings.push(Problem::at(
                origin,
                KEY,
                why,
                "choose ids that nobody else has",
            ));
        }
    }
    if let Some((from, to)) = SYSTEMD.into_iter().find(|range| meets(ours, *range)) {
        let why = format!("systemd gives {from}..{to} to containers and dynamic users");
        warnings.push(Problem::at(origin, KEY, why, "leave it at its default"));
    }
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let one = (first, first + u64::from(IDS) - 1);
    if !map.is_empty() && !is_mapped(&map, one) {
        let why = "these ids do not exist here: this is a user namespace without them";
        let remedy = "choose ids that /proc/self/uid_map holds, or user_namespace = false";
        warnings.push(Problem::at(origin, KEY, why, remedy));
    }
    warnings
}

type Range = (u64, u64);

fn meets(one: Range, other: Range) -> bool {
    one.0 <= other.1 && other.0 <= one.1
}

/// `name:first:count`
fn given(line: &str) -> Option<Range> {
    let mut fields = line.split(':').skip(1);
    let first: u64 = fields.next()?.parse().ok()?;
    let count: u64 = fields.next()?.trim().parse().ok()?;
    Some((first, first.checked_add(count.checked_sub(1)?)?))
}

/// Lines of `inside outside count`; a range is mapped when one line holds all of it.
fn is_mapped(map: &str, wanted: Range) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_whitespace();
        let first: Option<u64> = fields.next().and_then(|field| field.parse().ok());
        let count: Option<u64> = fields.nth(1).and_then(|field| field.parse().ok());
        match (first, count) {
            (Some(first), Some(count)) => {
                first <= wanted.0 && wanted.1 < first.saturating_add(count)
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_others_are_understood() {
        assert_eq!(given("alice:100000:65536"), Some((100_000, 165_535)));
        assert_eq!(given("alice:100000:0"), None);
        assert_eq!(given("# nobody"), None);
        assert!(meets((1, 5), (5, 9)) && !meets((1, 5), (6, 9)));
    }

    #[test]
    fn the_map_of_a_namespace_is_understood() {
        let whole = "         0          0 4294967295\n";
        assert!(is_mapped(whole, (0x7000_0000, 0x7000_ffff)));
        let container = "0 100000 65536\n";
        assert!(is_mapped(container, (0, 65_535)));
        assert!(!is_mapped(container, (65_535, 65_536)));
    }

    #[test]
    fn ids_of_containers_are_somebody_else_s() {
        let told = warnings(1_000_000, &Origin::Override(0));
        assert!(
            told.iter().any(|p| p.why.contains("524288..1879048191")),
            "{told:?}"
        );
    }
}
