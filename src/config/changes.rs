//! What a reload brings: which keys changed, and which of them are taken at once.

use super::key::Reload;
use super::keys::KEYS;
use super::meaning::Config;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    pub at_once: Vec<Change>,
    /// These wait for a restart; the worker goes on with what it has.
    pub restart: Vec<Change>,
}

/// A key whose value differs, both values as they would be typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub key: &'static str,
    pub from: String,
    pub to: String,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.at_once.is_empty() && self.restart.is_empty()
    }
}

impl Config {
    pub fn changes(old: &Self, new: &Self) -> Changes {
        let (mut old, mut new) = (old.clone(), new.clone());
        let mut changes = Changes::default();
        for key in KEYS {
            let (from, to) = (key.get(&mut old), key.get(&mut new));
            let tree = key.name == "features.import_cache_tree";
            let same_tree =
                old.features.import_cache_tree.tree == new.features.import_cache_tree.tree;
            if from == to && (!tree || same_tree) {
                continue;
            }
            let change = Change {
                key: key.name,
                from: from.to_toml(),
                to: to.to_toml(),
            };
            match key.reload {
                Reload::AtOnce => changes.at_once.push(change),
                Reload::Restart => changes.restart.push(change),
            }
        }
        changes
    }

    /// The new configuration as far as a reload may take it: what waits for a restart stays old.
    #[must_use]
    pub fn reloaded(old: &Self, new: &Self) -> Self {
        let (mut from, mut merged) = (old.clone(), new.clone());
        let root = std::path::Path::new("/");
        for key in KEYS.iter().filter(|key| key.reload == Reload::Restart) {
            let value = key.get(&mut from);
            key.put(&mut merged, &value, root)
                .expect("a key takes what it gave");
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::super::meaning::{Home, Machine};
    use super::super::tree::Tree;
    use super::*;
    use std::time::Duration;

    fn config() -> Config {
        Config::defaults(
            Home::installed(),
            Machine {
                ram_bytes: 8 << 30,
                cpus: 2,
            },
        )
    }

    #[test]
    fn changes_are_sorted_by_what_can_be_done() {
        let (old, mut new) = (config(), config());
        assert!(Config::changes(&old, &new).is_empty());
        new.limits.runtime = Duration::from_secs(7);
        new.http.tcp = None;
        let changes = Config::changes(&old, &new);
        let told = |change: &Change| format!("{} {} {}", change.key, change.from, change.to);
        assert_eq!(
            changes.at_once.iter().map(told).collect::<Vec<_>>(),
            ["limits.runtime_sec 30 7"]
        );
        assert_eq!(
            changes.restart.iter().map(told).collect::<Vec<_>>(),
            ["http.tcp \"127.0.0.1:5000\" \"\""]
        );
        let merged = Config::reloaded(&old, &new);
        assert_eq!(merged.http.tcp, old.http.tcp);
        assert_eq!(merged.limits.runtime, new.limits.runtime);
    }

    #[test]
    fn a_tree_file_with_another_content_is_a_change() {
        let (old, mut new) = (config(), config());
        let text = r#"{"children": [{"packages": ["numpy"]}]}"#;
        new.features.import_cache_tree.tree = Tree::from_json(text).expect("a tree");
        let changes = Config::changes(&old, &new);
        assert_eq!(changes.at_once[0].key, "features.import_cache_tree");
        assert!(changes.restart.is_empty());
        let merged = Config::reloaded(&old, &new);
        assert_eq!(merged, new);
    }
}
