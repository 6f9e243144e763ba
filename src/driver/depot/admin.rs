//! What people see of the packages, and may ask for.
//!
//! ```text
//!   POST /packages {"install": [..]} ─▶ key ─▶ GET /packages/sets/KEY until it is ready or failed
//!                  {"remove": [..]}   at once, where nobody uses them
//!                  {"profile": [..]}  behind other work; GET /packages tells when it is done
//! ```

use super::errands::Purpose;
use super::sets::State;
use super::{Depot, fitness, upkeep};
use crate::base::{FunctionName, Package};
use crate::driver::front::Client;
use crate::driver::worker::Worker;
use crate::engine::FunctionKey;
use crate::host::packages::{Entry, EntryId, Errand, Profile, Requirements, RequirementsKey};
use crate::host::trace;
use crate::http::{Code, Problem};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Bodies that are collected at once, and how long each may be.
const ORDERS_MAX: usize = 16;
const ORDER_BYTES_MAX: usize = 64 << 10;

/// A body on its way.
#[derive(Debug)]
pub(super) struct Order {
    client: Client,
    bytes: Vec<u8>,
}

impl Depot {
    /// Whether a client's body is collected here.
    pub(in crate::driver) fn expects(&self, client: Client) -> bool {
        self.orders.iter().any(|order| order.client == client)
    }

    pub(in crate::driver) fn forget(&mut self, client: Client) {
        self.orders.retain(|order| order.client != client);
    }

    /// What a package depends on, as far as the store has it: the last of a chain comes first.
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

    /// The packages a word means: `numpy` all versions, `numpy==1.26.4` that one.
    fn meant(&self, word: &str) -> Vec<EntryId> {
        let wanted = Package::parse(word);
        let is_meant = |entry: &&Entry| {
            let version = wanted.version();
            entry.facts.name == wanted.name() && version.is_none_or(|it| it == entry.facts.version)
        };
        let meant = self.entries.values().filter(is_meant);
        meant.map(|entry| entry.id.clone()).collect()
    }

    fn entry_json(&self, entry: &Entry, used_by: usize) -> Value {
        let facts = &entry.facts;
        let is_profiling = self.errands.profiling.contains(&entry.id);
        json!({
            "name": facts.name,
            "version": facts.version,
            "digest": facts.digest,
            "bytes": facts.bytes,
            "files": facts.files,
            "modules": facts.modules,
            "requires": facts.requires,
            "compiled": facts.compiled,
            "used_by": used_by,
            "profiling": is_profiling,
            "unfit": fitness::why_unfit(entry, &self.needs_of(entry)),
            "profile": facts.profile,
        })
    }
}

impl Worker {
    /// A function was deployed: its packages are installed before anybody calls it.
    pub(in crate::driver) fn prefetch(&mut self, function: FunctionKey) {
        let code = self
            .functions
            .get(function)
            .and_then(|known| known.code.as_ref());
        let asked = code.map(|code| Arc::clone(&code.requirements));
        if let Some(asked) = asked.filter(|asked| !asked.is_empty()) {
            self.want_set(asked, None);
        }
    }

    pub(in crate::driver) fn list_packages(&mut self, client: Client) {
        let uses = self.uses();
        let depot = &self.depot;
        let entries = depot.entries.values();
        let rows: Vec<Value> = entries
            .map(|entry| depot.entry_json(entry, uses.get(&entry.id).copied().unwrap_or(0)))
            .collect();
        let installer = depot.tool.as_ref().map(ToString::to_string);
        let answer = json!({
            "packages": rows,
            "bytes": upkeep::held(depot),
            "max_bytes": self.config.packages.max_bytes,
            "installer": installer,
        });
        self.answer_json(client, 200, &answer);
    }

    pub(in crate::driver) fn show_set(&mut self, client: Client, key: Option<RequirementsKey>) {
        if let Some(state) = key.and_then(|key| self.set_json(key)) {
            return self.answer_json(client, 200, &state);
        }
        let detail = "no such install is known (POST /packages begins one)";
        self.refuse(client, &Problem::new(Code::NotFound, detail));
    }

    pub(in crate::driver) fn show_packages_of(&mut self, client: Client, name: FunctionName) {
        let code = self
            .functions
            .named(&name)
            .and_then(|known| known.code.as_ref());
        let Some(code) = code else {
            let detail = "it was neither deployed nor called since the start";
            return self.refuse(client, &Problem::new(Code::NoSuchFunction, detail));
        };
        let state = if code.requirements.is_empty() {
            json!({ "state": "ready", "packages": [] })
        } else {
            let state = self.set_json(code.requirements.key());
            state.unwrap_or_else(|| json!({ "state": "wanted", "packages": [] }))
        };
        self.answer_json(client, 200, &state);
    }

    fn set_json(&self, key: RequirementsKey) -> Option<Value> {
        let request = self.depot.sets.get(&key)?;
        let names = |ids: &mut dyn Iterator<Item = &EntryId>| -> Vec<String> {
            ids.filter_map(|id| self.depot.entries.get(id))
                .map(|entry| entry.package().to_string())
                .collect()
        };
        Some(match &request.state {
            State::Looking | State::Resolving => json!({ "state": "resolving", "packages": [] }),
            State::Fetching { there, left } => {
                let waits = self.depot.errands.fetched_for(key);
                json!({
                    "state": "fetching",
                    "packages": names(&mut there.values()),
                    "fetching": waits,
                    "left": left,
                })
            }
            State::Composing { .. } => json!({ "state": "composing", "packages": [] }),
            State::Ready { entries, .. } => {
                json!({ "state": "ready", "packages": names(&mut entries.iter()) })
            }
            State::Failed { why, .. } => json!({ "state": "failed", "packages": [], "why": why }),
        })
    }

    pub(in crate::driver) fn order_begins(&mut self, client: Client) {
        if self.depot.orders.len() == ORDERS_MAX {
            let detail = "as many orders as there may be are under way";
            return self.refuse(client, &Problem::new(Code::Overloaded, detail));
        }
        let bytes = Vec::new();
        self.depot.orders.push(Order { client, bytes });
        self.front.stream_body(client);
        self.order_goes_on(client);
    }

    /// More of an order's body is there.
    pub(in crate::driver) fn order_goes_on(&mut self, client: Client) {
        let orders = &mut self.depot.orders;
        let Some(index) = orders.iter().position(|order| order.client == client) else {
            return;
        };
        loop {
            let body = self.front.body(client);
            let (count, is_last) = (body.bytes.len(), body.is_last);
            let order = &mut self.depot.orders[index];
            if order.bytes.len() + count <= ORDER_BYTES_MAX {
                order.bytes.extend_from_slice(body.bytes);
            }
            if count > 0 {
                self.front.take_body(client, count);
            }
            if is_last {
                break;
            }
            if count == 0 {
                return;
            }
        }
        let order = self.depot.orders.swap_remove(index);
        match self.obey_order(&order.bytes) {
            Ok(answer) => self.answer_json(client, 200, &answer),
            Err((code, why)) => self.refuse(client, &Problem::new(code, &why)),
        }
    }

    fn obey_order(&mut self, body: &[u8]) -> Result<Value, (Code, String)> {
        const SHAPE: &str =
            "send {\"install\": [...]}, {\"remove\": [...]} or {\"profile\": [...]}";
        let bad = |why: &str| (Code::BadFunction, why.to_owned());
        let order: Value = serde_json::from_slice(body).map_err(|_| bad(SHAPE))?;
        let (verb, words) = order
            .as_object()
            .filter(|order| order.len() == 1)
            .and_then(|order| order.iter().next())
            .ok_or_else(|| bad(SHAPE))?;
        let words = words.as_array().into_iter().flatten().map(Value::as_str);
        let words: Option<Vec<&str>> = words.collect();
        let words = words
            .filter(|words| !words.is_empty())
            .ok_or_else(|| bad(SHAPE))?;
        match verb.as_str() {
            "install" => {
                let asked = Requirements::of_words(words).map_err(|why| bad(&why))?;
                let key = asked.key();
                self.want_set(Arc::new(asked), None);
                Ok(json!({ "key": key.to_string() }))
            }
            "remove" => self.remove_packages(&words),
            "profile" => {
                let meant = self.each_meant(&words)?;
                for id in &meant {
                    self.profile(id);
                }
                Ok(self.names_json("profiling", &meant))
            }
            _ => Err(bad(SHAPE)),
        }
    }

    fn each_meant(&self, words: &[&str]) -> Result<Vec<EntryId>, (Code, String)> {
        let mut all = Vec::new();
        for word in words {
            let meant = self.depot.meant(word);
            if meant.is_empty() {
                let shown: String = word.chars().take(80).collect();
                let why = format!("the store has no package {shown:?} (GET /packages lists them)");
                return Err((Code::NotFound, why));
            }
            all.extend(meant);
        }
        Ok(all)
    }

    fn remove_packages(&mut self, words: &[&str]) -> Result<Value, (Code, String)> {
        let meant = self.each_meant(words)?;
        let uses = self.uses();
        if let Some(used) = meant.iter().find(|id| uses.contains_key(id)) {
            let package = self.depot.entries[used].package();
            let why = format!("{package} is in use by {} functions or zygotes", uses[used]);
            return Err((Code::ReadOnlyRegistry, why));
        }
        let answer = self.names_json("removed", &meant);
        self.drop_entries(&meant);
        Ok(answer)
    }

    fn names_json(&self, what: &str, ids: &[EntryId]) -> Value {
        let known = ids.iter().filter_map(|id| self.depot.entries.get(id));
        let names: Vec<String> = known.map(|entry| entry.package().to_string()).collect();
        json!({ what: names })
    }

    /// Has a package imported by itself, to see what that does.
    pub(super) fn profile(&mut self, id: &EntryId) {
        let Some(entry) = self.depot.entries.get(id).cloned() else {
            return;
        };
        if self.depot.errands.profiling.contains(id) {
            return;
        }
        self.depot.errands.profiling.push(id.clone());
        let needs = self.depot.needs_of(&entry);
        let errand = Errand::Profile { entry, needs };
        self.send_errand(errand, Purpose::Profile(id.clone()));
    }

    pub(super) fn profiled(&mut self, entry: Entry) {
        self.depot
            .errands
            .profiling
            .retain(|known| *known != entry.id);
        self.record_entry(&entry);
        let id = entry.id.clone();
        let known = self.depot.entries.get(&id);
        let was = known.and_then(|known| known.facts.profile.clone());
        let why = |profile: Option<&Profile>| profile.map(|it| it.why.clone()).unwrap_or_default();
        let is_news = why(was.as_ref()) != why(entry.facts.profile.as_ref());
        self.depot.entries.insert(id.clone(), entry);
        self.depot.weights_are_new = true;
        if is_news {
            self.found_unfit(&id);
        }
    }

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
