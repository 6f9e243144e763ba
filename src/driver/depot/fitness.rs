//! Which packages zygotes do not import, as profiles found: those are imported by instances only.
//!
//! A package whose import leaves threads or files, or does not work in a fork, spoils every zygote
//! that imports it, and so does whatever needs it. The rest of a node's packages are imported: only
//! a node that has none left gets no zygote.

use crate::base::Package;
use crate::driver::worker::Worker;
use crate::host::packages::{Entry, EntryId};
use crate::policy::NodeId;
use std::collections::BTreeMap;

/// Why each of these that zygotes should not import is so, by name.
pub(super) fn unfit(entries: &[&Entry]) -> BTreeMap<String, String> {
    let mut unfit = BTreeMap::new();
    let mut spreading: Vec<(&str, String)> = Vec::new();
    for entry in entries {
        let Some(profile) = entry.facts.profile.as_ref().filter(|it| !it.why.is_empty()) else {
            continue;
        };
        // Alone it could not be imported, which may be for want of one that needs it.
        let needed = || {
            entries
                .iter()
                .any(|it| it.facts.requires.contains(&entry.facts.name))
        };
        if !profile.spreads && needed() {
            continue;
        }
        unfit.insert(entry.facts.name.clone(), profile.why.clone());
        if profile.spreads {
            spreading.push((&entry.facts.name, profile.why.clone()));
        }
    }
    // Each is put there once, so this ends.
    while let Some((name, why)) = spreading.pop() {
        let needs_it = |entry: &&&Entry| entry.facts.requires.iter().any(|it| it == name);
        for entry in entries.iter().filter(needs_it) {
            let inherited = match why.strip_prefix("it needs ") {
                Some(chain) => format!("it needs {name}, which needs {chain}"),
                None => format!("it needs {name}: {why}"),
            };
            if !unfit.contains_key(&entry.facts.name) {
                unfit.insert(entry.facts.name.clone(), inherited.clone());
                spreading.push((&entry.facts.name, inherited));
            }
        }
    }
    unfit
}

/// Why a node with these packages of its own has nothing to import; none when it has.
pub(super) fn all_unfit(own: &[Package], entries: &[&Entry]) -> Option<String> {
    let unfit = unfit(entries);
    let reasons: Vec<String> = own
        .iter()
        .map_while(|package| Some(format!("{package}: {}", unfit.get(package.name())?)))
        .collect();
    (!own.is_empty() && reasons.len() == own.len()).then(|| reasons.join("; "))
}

/// Why zygotes do not import a package that needs these; none when they may.
pub(super) fn why_unfit(entry: &Entry, needs: &[Entry]) -> Option<String> {
    let all: Vec<&Entry> = core::iter::once(entry).chain(needs).collect();
    unfit(&all).remove(&entry.facts.name)
}

impl Worker {
    /// A package was found unfit: zygotes that have imported it go, and nodes that could not be
    /// made with it are tried without it.
    pub(super) fn found_unfit(&mut self, id: &EntryId) {
        let nodes: Vec<NodeId> = self.engine.tree().iter().map(|(node, _)| node).collect();
        let has = |node: &NodeId| {
            let holds = self.engine.holds(*node);
            let view = holds.and_then(|holds| self.depot.nodes.get(holds));
            view.is_some_and(|view| view.entries.contains(id))
        };
        let would_have = |node: &NodeId| {
            let entries = self.entries_of_node(*node);
            entries.is_some_and(|entries| entries.iter().any(|entry| entry.id == *id))
        };
        let spoilt: Vec<NodeId> = nodes.iter().copied().filter(has).collect();
        if spoilt.is_empty() && !nodes.iter().any(would_have) {
            return;
        }
        for zygote in self.nests.of_nodes(&spoilt) {
            self.kill_zygote(zygote);
        }
        self.tell_tree();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::packages::{Facts, Profile};

    fn entry(name: &str, requires: &[&str], why: &str, spreads: bool) -> Entry {
        let profile = Profile {
            import_ms: 1.0,
            private_mb: 1.0,
            shared_mb: 1.0,
            threads: 0,
            open_files: 0,
            forks: true,
            why: why.to_owned(),
            spreads,
            imports: Vec::new(),
        };
        Entry::of(Facts {
            name: name.to_owned(),
            version: "1".to_owned(),
            digest: "0".to_owned(),
            modules: vec![name.to_owned()],
            requires: requires.iter().map(|&name| name.to_owned()).collect(),
            paths: Vec::new(),
            bytes: 0,
            files: 0,
            added_secs: 0,
            compiled: true,
            boot: None,
            profile: Some(profile),
        })
    }

    #[test]
    fn what_needs_an_unfit_package_is_unfit() {
        let all = [
            entry("top", &["middle"], "", false),
            entry("middle", &["threads"], "", false),
            entry("threads", &["top"], "it leaves threads", true),
            entry("absent", &[], "it cannot be imported", false),
            entry("without", &[], "", false),
            entry("ring", &[], "it cannot be imported", false),
            entry("round", &["ring"], "", false),
        ];
        let all: Vec<&Entry> = all.iter().collect();
        let found = unfit(&all);
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["absent", "middle", "threads", "top"]);
        assert_eq!(
            found["top"],
            "it needs middle, which needs threads: it leaves threads"
        );
        let own = |names: &[&str]| {
            names
                .iter()
                .map(|it| Package::parse(it))
                .collect::<Vec<_>>()
        };
        assert!(all_unfit(&own(&["top", "threads"]), &all).is_some());
        assert_eq!(all_unfit(&own(&["top", "without"]), &all), None);
        assert_eq!(all_unfit(&[], &all), None, "the root imports nothing");
    }
}
