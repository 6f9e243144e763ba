//! What people see of the packages.

use super::Depot;
use super::errands::Purpose;
use crate::driver::front::Client;
use crate::driver::worker::Worker;
use crate::host::packages::{Entry, EntryId, Errand, RequirementsKey};
use crate::host::trace;
use crate::http::{Code, Problem};
use serde_json::json;
use std::collections::BTreeSet;

impl Worker {
    /// Somebody waited for these packages, and they are there.
    pub(super) fn answer_installed(&mut self, client: Client, key: RequirementsKey) {
        let entries = self
            .depot
            .sets
            .get(&key)
            .map(|request| request.entries().to_vec());
        let entries = entries.unwrap_or_default().into_iter();
        let names: Vec<String> = entries
            .filter_map(|id| self.depot.entries.get(&id))
            .map(|entry| entry.package().to_string())
            .collect();
        self.answer_json(client, 200, &json!({ "packages": names }));
    }

    pub(super) fn refuse_install(&mut self, client: Client, key: RequirementsKey) {
        let why = self
            .depot
            .sets
            .get(&key)
            .and_then(super::sets::Request::why);
        let why = why
            .unwrap_or("its packages could not be installed")
            .to_owned();
        self.refuse(client, &Problem::new(Code::InstallFailed, &why));
    }

    /// Has a package imported by itself, to see what that does.
    pub(super) fn profile(&mut self, id: &EntryId) {
        let Some(entry) = self.depot.entries.get(id).cloned() else {
            return;
        };
        let needs = self.depot.needs_of(&entry);
        let errand = Errand::Profile { entry, needs };
        self.send_errand(errand, Purpose::Profile(id.clone()));
    }

    pub(super) fn profiled(&mut self, entry: Entry) {
        self.record_entry(&entry);
        self.depot.entries.insert(entry.id.clone(), entry);
    }
}

impl Worker {
    /// A package and what importing it was found to do, for the trace.
    fn record_entry(&mut self, entry: &Entry) {
        if let Some(profile) = &entry.facts.profile {
            self.record_package(trace::Package {
                name: entry.package().to_string(),
                deps: entry.facts.requires.clone(),
                top: entry.facts.modules.clone(),
                import_ms: profile.import_ms,
                mem_mb: profile.private_mb + profile.shared_mb,
            });
        }
    }

    /// What the store held before this worker.
    pub(in crate::driver) fn record_packages(&mut self) {
        let entries: Vec<Entry> = self.depot.entries.values().cloned().collect();
        for entry in &entries {
            self.record_entry(entry);
        }
    }
}

impl Depot {
    /// What a package depends on, as far as the store has it: what comes first depends on nothing
    /// that comes later, circles apart.
    fn needs_of(&self, entry: &Entry) -> Vec<Entry> {
        let newest = self.newest();
        let mut found: Vec<Entry> = Vec::new();
        let mut open: Vec<&str> = entry.facts.requires.iter().map(String::as_str).collect();
        let mut seen: BTreeSet<&str> = open.iter().copied().collect();
        seen.insert(&entry.facts.name);
        while let Some(name) = open.pop() {
            let Some(needed) = newest.get(name) else {
                continue;
            };
            found.push((*needed).clone());
            for further in &needed.facts.requires {
                if seen.insert(further) {
                    open.push(further);
                }
            }
        }
        found.reverse();
        found
    }
}
