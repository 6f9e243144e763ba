//! What must hold after every event. Tests and simulations sweep it; a breach is a bug.

use super::call::CallState;
use super::forest::Phase;
use super::function::Install;
use super::instance::InstanceState;
use super::zygote::ZygoteState;
use super::{CallKey, Engine, FunctionKey, InstanceKey, ZygoteKey};
use alloc::vec::Vec;

impl Engine {
    /// Panics when something is not as it must be. Looks at everything: not for the live path.
    pub fn check_invariants(&self) {
        self.check_calls();
        for (key, _) in self.functions.iter() {
            self.check_function(key);
        }
        for (key, _) in self.instances.iter() {
            self.check_instance(key);
        }
        for (key, _) in self.zygotes.iter() {
            self.check_zygote(key);
        }
        self.check_nodes();
        self.check_sums();
        self.check_waiters();
        self.check_agenda();
    }

    fn check_calls(&self) {
        for (key, call) in self.calls.iter() {
            assert!(
                self.functions.contains(call.function),
                "call {key} is of a function that is gone"
            );
            match call.state {
                CallState::Queued => assert!(!call.hung_up, "{key} hung up and waits"),
                CallState::Given(instance) => {
                    let holder = self.instances.get(instance);
                    let holds = holder.and_then(|holder| holder.call);
                    assert_eq!(holds, Some(key), "{key} was given to who does not have it");
                }
            }
        }
        let queues = self.functions.iter().map(|(_, f)| f.queue.len());
        let queued = self.calls.iter();
        let queued = queued.filter(|(_, call)| call.state == CallState::Queued);
        assert_eq!(
            queues.sum::<u32>() as usize,
            queued.count(),
            "queues hold exactly the queued calls"
        );
    }

    fn check_function(&self, key: FunctionKey) {
        let known = &self.functions[key];
        let mut since = crate::base::Time::ZERO;
        for index in self.queue_links.iter(&known.queue) {
            let call: CallKey = self.calls.key_at(index).expect("queues hold the living");
            assert_eq!(self.calls[call].function, key);
            assert!(self.calls[call].since >= since, "{key}'s queue is in order");
            since = self.calls[call].since;
        }
        for state in InstanceState::ALL {
            if state == InstanceState::Dying {
                continue;
            }
            let mut deadline = crate::base::Time::ZERO;
            for index in self.instance_links.iter(known.chain(state)) {
                let listed = self.instances.key_at(index);
                let instance = &self.instances[listed.expect("lists hold the living")];
                assert_eq!((instance.function, instance.state), (key, state));
                if state.is_working() {
                    assert!(instance.deadline >= deadline, "deadlines are in order");
                    deadline = instance.deadline;
                }
            }
        }
        let of_it = self.instances.iter().filter(|(_, i)| i.function == key);
        assert_eq!(known.alive() as usize, of_it.count());
        let spare = self.instances.iter();
        let spare = spare.filter(|(_, i)| i.function == key && i.spare);
        assert_eq!(known.spare as usize, spare.count());
        assert!(
            known.queue.is_empty() || !known.has_idle(),
            "{key}: calls wait while instances idle"
        );
        assert!(!known.removed || known.queue.is_empty());
        assert!(
            !known.removed || known.alive() > 0,
            "{key} is to be retired"
        );
        if let Some(cap) = known.settings.instances {
            // A smaller cap of a newer version kills nobody who runs.
            let of_version = self.instances.iter();
            let of_version = of_version.filter(|(_, i)| {
                i.function == key && i.version == known.version && i.state.is_working()
            });
            assert!(of_version.count() <= cap as usize, "{key} is above its cap");
        }
        if known.install != Install::Ready {
            let fresh = self.instances.iter();
            let mut fresh = fresh.filter(|(_, i)| i.function == key && i.version == known.version);
            assert!(fresh.next().is_none(), "{key} started before its install");
        }
        if known.has_idle() {
            assert!(self.victims.contains(key.index() as u32));
        }
    }

    fn check_instance(&self, key: InstanceKey) {
        let instance = &self.instances[key];
        assert!(self.functions.contains(instance.function));
        match instance.state {
            InstanceState::Forking => {
                assert!(!instance.confirmed && !instance.given);
                assert_eq!(instance.spare, instance.call.is_none(), "{key}");
            }
            InstanceState::Starting => {
                assert!(instance.confirmed && !instance.given && instance.call.is_some());
            }
            InstanceState::Busy => {
                assert!(instance.confirmed && instance.given && instance.call.is_some());
            }
            InstanceState::Idle | InstanceState::Frozen => {
                assert!(instance.confirmed && instance.call.is_none());
                let version = self.functions[instance.function].version;
                assert_eq!(instance.version, version, "an outdated one serves nobody");
            }
            InstanceState::Dying => assert!(instance.end.is_some()),
        }
        if let Some(call) = instance.call {
            assert_eq!(self.calls[call].state, CallState::Given(key));
        }
        assert!(!instance.evicted || instance.state == InstanceState::Dying);
    }

    fn check_zygote(&self, key: ZygoteKey) {
        let zygote = &self.zygotes[key];
        let unconfirmed: Vec<u32> = self.fork_links.iter(&zygote.unconfirmed).collect();
        for index in &unconfirmed {
            let listed = self.instances.key_at(*index);
            let instance = &self.instances[listed.expect("lists hold the living")];
            assert!(!instance.confirmed && instance.zygote == Some(key));
        }
        let mine = self.instances.iter().filter(|(_, i)| i.zygote == Some(key));
        let working = mine.filter(|(_, i)| i.state.is_working()).count();
        assert_eq!(zygote.working as usize, working, "{key}");
        let made = self.zygotes.iter().filter(|(_, z)| z.parent == Some(key));
        assert_eq!(zygote.making as usize, made.count());
        if zygote.state == ZygoteState::Dying {
            assert!(unconfirmed.is_empty() && zygote.making == 0 && zygote.end.is_some());
        } else {
            let node = self.forest.at(zygote.place);
            assert!(node.zygotes.contains(&key), "{key} is not with its node");
            assert_eq!(self.forest.node_of(zygote.place), zygote.node);
        }
        if zygote.is_spare() {
            let slot = self.limits.functions + key.index() as u32;
            assert!(
                self.victims.contains(slot),
                "{key} could go, and nobody knows"
            );
        }
    }

    fn check_nodes(&self) {
        for (place, node) in self.forest.nodes.iter().enumerate() {
            let present = node.phase == Phase::Present;
            assert_eq!(present, !node.zygotes.is_empty(), "node {place}");
            for key in &node.zygotes {
                assert_ne!(self.zygotes[*key].state, ZygoteState::Dying);
                assert_eq!(self.zygotes[*key].place as usize, place);
            }
            if node.phase == Phase::Waiting {
                let parent = self.forest.parent(place as u32);
                let parent = parent.expect("the root waits for nobody");
                let phase = self.forest.at(parent).phase;
                assert_ne!(phase, Phase::Absent, "node {place} waits in vain");
            }
        }
        let retiring = self.zygotes.iter().filter(|(_, zygote)| zygote.retiring);
        assert_eq!(self.retiring as usize, retiring.count());
    }

    fn check_sums(&self) {
        let instances = self.instances.iter().map(|(_, i)| &i.charge);
        let zygotes = self.zygotes.iter().map(|(_, z)| &z.charge);
        assert!(
            self.ledger.balances(instances.chain(zygotes)),
            "the ledger does not balance"
        );
        let importing = self.instances.iter().filter(|(_, i)| i.imports);
        assert_eq!(self.importing as usize, importing.count());
        let evicted = self.instances.iter().filter(|(_, i)| i.evicted).count()
            + self.zygotes.iter().filter(|(_, z)| z.evicted).count();
        assert_eq!(self.evictions_in_flight as usize, evicted);
        assert!(self.evictions_in_flight <= self.limits.evictions_in_flight);
    }

    fn check_waiters(&self) {
        for index in self.waiter_links.iter(&self.waiters) {
            let function = self.functions.key_at(index).expect("waiters are known");
            let known = &self.functions[function];
            assert!(known.awaiting.is_some() && !known.queue.is_empty());
            assert!(known.bypassed <= self.limits.bypasses);
        }
        let awaiting = self.functions.iter().filter(|(_, f)| f.awaiting.is_some());
        assert_eq!(self.waiters.len() as usize, awaiting.count());
    }

    /// Nothing that has a deadline is left without somebody who looks.
    fn check_agenda(&self) {
        for (key, known) in self.functions.iter() {
            let slot = self.function_slot(key.index() as u32);
            let armed = self.agenda.armed(slot);
            assert_eq!(
                armed.unwrap_or(crate::base::Time::MAX),
                known.armed,
                "{key}"
            );
            if let Some(at) = self.function_bound(key) {
                assert!(
                    known.armed <= crate::base::Time::max(at, self.now + super::due::GRAIN),
                    "{key} has something due at {at:?} and is armed for {:?}: {known:?}",
                    known.armed
                );
            }
        }
        for (key, zygote) in self.zygotes.iter() {
            if zygote.state == ZygoteState::Forking {
                let slot = Self::zygote_slot(key.index() as u32);
                assert!(self.agenda.armed(slot).is_some());
            }
        }
    }
}
