//! Functions come, change and go; their packages are installed; the configuration changes.

use super::function::{Function, Install};
use super::instance::InstanceState;
use super::{
    Effect, End, Engine, FunctionKey, FunctionSettings, InstanceKey, Note, Packages, Params,
    Refusal, Wanted, limit_of,
};
use crate::base::{Duration, PackageSet};
use alloc::boxed::Box;

/// Calls of a function whose install failed are refused for this long, then it is tried again;
/// with each failure in a row for twice as long.
const INSTALL_RETRY: Duration = Duration::from_secs(5);
const INSTALL_RETRY_MAX: Duration = Duration::from_mins(5);

impl Engine {
    /// New functions beyond the limit are not known: their calls are refused as of no function.
    pub(super) fn function_deployed(
        &mut self,
        key: FunctionKey,
        version: u32,
        settings: Box<FunctionSettings>,
    ) {
        if self.functions.contains(key) {
            self.renew(key, version, settings);
        } else {
            let function = Function::new(version, settings, &self.params);
            if self.functions.insert(key, function).is_err() {
                return self.effect(Effect::RetireFunction { function: key });
            }
        }
        self.rank(key);
        self.note(Note::FunctionDeployed {
            function: key,
            version,
        });
        self.serve(key);
    }

    /// Running calls finish on the old code; everything else of it goes.
    fn renew(&mut self, key: FunctionKey, version: u32, settings: Box<FunctionSettings>) {
        let known = &mut self.functions[key];
        if known.removed {
            // Its name may not be used again before it is retired.
            return self.stale();
        }
        if matches!(known.install, Install::Running { .. }) {
            let wanted = Wanted::Function {
                function: key,
                version: known.version,
            };
            self.effect(Effect::CancelInstall { wanted });
        }
        self.functions[key].renew(version, settings, &self.params);
        self.kill_unused(key);
        self.await_no_more(key);
    }

    pub(super) fn function_removed(&mut self, key: FunctionKey) {
        let Some(known) = self.functions.get_mut(key).filter(|known| !known.removed) else {
            return self.stale();
        };
        known.removed = true;
        let (install, version) = (known.install, known.version);
        self.note(Note::FunctionRemoved { function: key });
        if matches!(install, Install::Running { .. }) {
            let wanted = Wanted::Function {
                function: key,
                version,
            };
            self.effect(Effect::CancelInstall { wanted });
        }
        self.refuse_queue(key, Refusal::NoSuchFunction);
        self.kill_unused(key);
        self.retire(key);
    }

    /// Kills what waits for calls that will not come: of a version that is not wanted any more.
    fn kill_unused(&mut self, key: FunctionKey) {
        for state in [InstanceState::Idle, InstanceState::Frozen] {
            while let Some(instance) = self.first_of(key, state) {
                self.kill(instance, End::Outdated);
            }
        }
        let mut at = self.functions[key].chain(InstanceState::Forking).first();
        while let Some(index) = at {
            at = self.instance_links.next(index);
            let listed = self.instances.key_at(index);
            let instance = listed.expect("lists hold the living");
            if self.instances[instance].spare {
                self.kill(instance, End::Outdated);
            }
        }
    }

    fn first_of(&self, key: FunctionKey, state: InstanceState) -> Option<InstanceKey> {
        let index = self.functions[key].chain(state).first()?;
        self.instances.key_at(index)
    }

    /// Forgets a removed function once nothing of it is left.
    pub(super) fn retire(&mut self, key: FunctionKey) {
        let known = &self.functions[key];
        if !known.removed || known.alive() > 0 {
            return;
        }
        self.forget_victim(key);
        let place = self.function_slot(key.index() as u32);
        self.agenda.disarm(place);
        self.functions.remove(key);
        self.effect(Effect::RetireFunction { function: key });
    }

    // Packages.

    /// Calls wait for the packages: asks for them if nobody has, and refuses where asking failed.
    pub(super) fn install(&mut self, key: FunctionKey) {
        let known = &mut self.functions[key];
        match known.install {
            Install::Ready | Install::Running { .. } => return,
            Install::Failed { until } if self.now < until => {
                return self.refuse_queue(key, Refusal::InstallFailed);
            }
            Install::Needed | Install::Failed { .. } => {}
        }
        known.install = Install::Running { since: self.now };
        let wanted = Wanted::Function {
            function: key,
            version: known.version,
        };
        self.effect(Effect::Install { wanted });
        self.note(Note::Installing { wanted });
        if let Some(longest) = self.params.install {
            self.arm(key, self.now + longest);
        }
    }

    pub(super) fn install_finished(&mut self, wanted: Wanted, packages: PackageSet) {
        match wanted {
            Wanted::Function { function, version } => {
                self.function_installed(function, version, packages);
            }
            Wanted::Node { generation, node } => self.node_installed(generation, node, packages),
        }
    }

    fn function_installed(&mut self, key: FunctionKey, version: u32, packages: PackageSet) {
        let found = self.functions.get_mut(key);
        let Some(known) = found.filter(|known| known.version == version && !known.removed) else {
            return self.stale();
        };
        let since = match known.install {
            Install::Running { since } => since,
            // It was given up for lost, and is there after all.
            Install::Needed | Install::Failed { .. } => self.now,
            Install::Ready => return self.stale(),
        };
        known.install = Install::Ready;
        known.install_failures = 0;
        known.settings.packages = Packages::Known(packages);
        for index in self.queue_links.iter(&known.queue) {
            let waiting = self.calls.key_at(index);
            // The wait for an instance begins now: that for packages had a bound of its own.
            self.calls[waiting.expect("queues hold the living")].since = self.now;
        }
        let took = self.now.since(since);
        self.note(Note::Installed {
            wanted: Wanted::Function {
                function: key,
                version,
            },
            took,
        });
        self.rank(key);
        self.serve(key);
    }

    pub(super) fn install_failed(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Function { function, version } => {
                let found = self.functions.get(function);
                let running = found.is_some_and(|known| {
                    known.version == version && matches!(known.install, Install::Running { .. })
                });
                if !running {
                    return self.stale();
                }
                self.note(Note::InstallFailed { wanted });
                self.give_up_install(function);
            }
            Wanted::Node { generation, node } => self.node_install_failed(generation, node),
        }
    }

    pub(super) fn install_timed_out(&mut self, key: FunctionKey) {
        let wanted = Wanted::Function {
            function: key,
            version: self.functions[key].version,
        };
        self.effect(Effect::CancelInstall { wanted });
        self.note(Note::InstallTimedOut { wanted });
        self.give_up_install(key);
    }

    fn give_up_install(&mut self, key: FunctionKey) {
        let known = &mut self.functions[key];
        let wait = INSTALL_RETRY * (1 << u32::min(known.install_failures, 16));
        known.install_failures += 1;
        let until = self.now + Duration::min(wait, INSTALL_RETRY_MAX);
        known.install = Install::Failed { until };
        self.refuse_queue(key, Refusal::InstallFailed);
    }

    // Configuration.

    /// Everything decided from now on is decided by the new parameters.
    pub(super) fn config_changed(&mut self, params: Params) {
        let copies = self.forest_copies(&params);
        let replanted = copies != self.forest.copies;
        let reranked = params.lookup != self.params.lookup;
        let is_same_policy = params.evict == self.params.evict;
        self.ledger.set_limit(limit_of(&self.limits, &params));
        self.params = params;
        if replanted {
            self.replant(copies);
        }
        if !is_same_policy {
            self.forget_histories();
        }
        if reranked && !replanted {
            self.rank_all();
        }
        self.reconsider_victims();
        self.arm_all();
        self.unsettled = true;
    }

    /// Another policy asks for another history, and its worth is of another kind.
    fn forget_histories(&mut self) {
        let evict = self.params.evict;
        for (_, function) in self.functions.iter_mut() {
            function.history = evict.history();
        }
        self.forest.forget_histories(evict);
        self.clock = 0.0;
    }
}
