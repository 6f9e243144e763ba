//! A family: one zygote started from nothing, the zygotes forked from it, and all their instances.
//!
//! They share a user namespace, and so trust each other as far as root in it goes: imports are
//! user code, run as that root. Nothing else is shared with other families: each has its own range
//! of host ids and its own branch of cgroups.
//!
//! An instance takes a slot: a cgroup, a user id, a page to watch it by, its empty /tmp and /host.
//! Slots are made ahead and used again:
//!
//! ```text
//!   made --> spare --take--> used --give_back--> returned --refill--> spare
//!                                                       \--not clean--> removed
//! ```

use super::cgroup::{Branch, Forest, Group, Limits};
use super::jail;
use crate::sys::page::SharedPage;
use crate::sys::{network_namespace, user_namespace};
use crate::wire::{Seen, seen};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::collections::BTreeMap;
use std::io;

/// Slots made or renewed by one `refill`: it is called between two events of the loop.
const REFILL_AT_ONCE: usize = 4;
/// Of slots that come back so many times the wanted spares are kept: a load that made that many at
/// once is likely to do it again.
const SPARES_KEPT: usize = 4;
/// Groups that were busy when they were to be removed.
const BUSY_MAX: usize = 1024;
/// Ids inside a family that instances may have: 0 is the zygotes', the last are overflow ids.
const USERS_MAX: u32 = 65_000;

const _: () = assert!(seen::SEEN_BYTES == 4096, "a shared page is one page");
const _: () = assert!(USERS_MAX < user_namespace::IDS);

/// What slots look like before anybody asks for something else.
#[derive(Debug, Clone, Copy)]
pub struct SlotDefaults {
    pub limits: Limits,
    pub scratch_bytes: u64,
    /// Kept ready.
    pub spares: usize,
    /// Whether groups serve more than one instance.
    pub reuse: bool,
}

#[derive(Debug)]
pub struct Family {
    branch: Branch,
    user_namespace: Option<OwnedFd>,
    first_host_id: u32,
    defaults: SlotDefaults,
    /// By user id: the lowest is taken first.
    spares: BTreeMap<u32, Slot>,
    returned: Vec<Slot>,
    busy: Vec<Group>,
    /// Ids of slots that were removed.
    free_users: Vec<u32>,
    users_made: u32,
    /// Zygotes and instances alive.
    members: usize,
}

/// Room for one instance.
#[derive(Debug)]
pub struct Slot {
    uid: u32,
    pub group: Group,
    page: SharedPage,
    scratch: Option<Scratch>,
}

/// An empty /tmp and /host.
#[derive(Debug)]
pub struct Scratch {
    bytes: u64,
    pub tmp: OwnedFd,
    pub host: OwnedFd,
}

impl Family {
    /// `first_host_id`: where its range of 65,536 begins; none where sandboxes have no user
    /// namespaces, and `first_host_id` is then where users begin.
    pub fn found(
        forest: &mut Forest,
        first_host_id: u32,
        own_namespace: bool,
        defaults: SlotDefaults,
    ) -> io::Result<Self> {
        let user_namespace = if own_namespace {
            let proc = jail::whole_proc()?;
            Some(user_namespace::create(first_host_id, proc.as_fd())?)
        } else {
            None
        };
        let branch = forest.branch(own_namespace.then_some(first_host_id))?;
        Ok(Self {
            branch,
            user_namespace,
            first_host_id,
            defaults,
            spares: BTreeMap::new(),
            returned: Vec::new(),
            busy: Vec::new(),
            free_users: Vec::new(),
            users_made: 0,
            members: 0,
        })
    }

    pub fn user_namespace(&self) -> Option<BorrowedFd<'_>> {
        self.user_namespace
            .as_ref()
            .map(|namespace| namespace.as_fd())
    }

    /// A network with nothing but a loopback, of this family. Takes about a millisecond.
    pub fn empty_network(&self) -> io::Result<OwnedFd> {
        network_namespace::create(self.user_namespace())
    }

    pub fn first_host_id(&self) -> u32 {
        self.first_host_id
    }

    pub fn name(&self) -> &str {
        self.branch.name()
    }

    /// Nobody of it is left.
    pub fn is_extinct(&self) -> bool {
        self.members == 0
    }

    /// The id by which a member takes a user, and the one the host knows it by.
    pub fn ids(&self, slot: &Slot) -> (u32, u32) {
        let on_host = self.first_host_id + slot.uid;
        match self.user_namespace {
            Some(_) => (slot.uid, on_host),
            None => (on_host, on_host),
        }
    }

    /// A group for a zygote.
    pub fn take_group(&mut self, limits: Limits) -> io::Result<Group> {
        let group = self.branch.group('z', Some(limits))?;
        self.members += 1;
        Ok(group)
    }

    pub fn give_back_group(&mut self, group: Group) {
        self.members -= 1;
        self.discard(group);
    }

    /// Room for an instance, a spare one if there is any.
    pub fn take(&mut self, limits: Limits, scratch_bytes: u64) -> io::Result<(Slot, Scratch)> {
        let mut slot = match self.spares.pop_first() {
            Some((_, slot)) => slot,
            None => self.make()?,
        };
        let ready = slot
            .group
            .limit(limits)
            .and_then(|()| match slot.scratch.take() {
                Some(scratch) if scratch.bytes == scratch_bytes => Ok(scratch),
                _ => Scratch::new(scratch_bytes),
            });
        match ready {
            Ok(scratch) => {
                self.members += 1;
                Ok((slot, scratch))
            }
            Err(error) => {
                self.returned.push(slot);
                Err(error)
            }
        }
    }

    /// When nothing lives in it any more.
    pub fn give_back(&mut self, slot: Slot) {
        self.members -= 1;
        self.returned.push(slot);
    }

    /// Cleans what came back and makes what is missing, a few at a time. False when there is
    /// nothing left to do.
    pub fn refill(&mut self) -> io::Result<bool> {
        self.busy.retain(|group| self.branch.remove(group).is_err());
        for _ in 0..REFILL_AT_ONCE {
            if let Some(slot) = self.returned.pop() {
                self.clean(slot)?;
            } else if self.spares.len() < self.defaults.spares {
                let mut slot = self.make()?;
                slot.group.limit(self.defaults.limits)?;
                self.keep(slot)?;
            } else {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Keeps a returned slot if it is worth it.
    fn clean(&mut self, mut slot: Slot) -> io::Result<()> {
        let room = self.spares.len() < self.defaults.spares * SPARES_KEPT;
        if room && self.defaults.reuse && slot.renew(self.defaults.limits)? {
            return self.keep(slot);
        }
        self.remove(slot);
        Ok(())
    }

    fn keep(&mut self, mut slot: Slot) -> io::Result<()> {
        if slot.scratch.is_none() {
            slot.scratch = Some(Scratch::new(self.defaults.scratch_bytes)?);
        }
        self.spares.insert(slot.uid, slot);
        Ok(())
    }

    pub fn spares(&self) -> usize {
        self.spares.len()
    }

    /// Removes its groups, once it is extinct. Fails while one of them is busy.
    pub fn bury(&mut self, forest: &Forest) -> io::Result<()> {
        assert!(
            self.is_extinct(),
            "its members have given back what they had"
        );
        let spares = core::mem::take(&mut self.spares).into_values();
        let slots = spares.chain(self.returned.drain(..));
        self.busy.extend(slots.map(|slot| slot.group));
        let mut failed = None;
        self.busy.retain(|group| {
            let removed = self.branch.remove(group);
            let is_left = removed.is_err();
            failed = failed.take().or(removed.err());
            is_left
        });
        failed.map_or_else(|| forest.prune(&self.branch), Err)
    }

    fn make(&mut self) -> io::Result<Slot> {
        let uid = match self.free_users.pop() {
            Some(uid) => uid,
            None if self.users_made < USERS_MAX => {
                self.users_made += 1;
                self.users_made
            }
            None => return Err(io::ErrorKind::QuotaExceeded.into()),
        };
        let made = SharedPage::new().and_then(|page| Ok((page, self.branch.group('s', None)?)));
        match made {
            Ok((page, group)) => Ok(Slot {
                uid,
                group,
                page,
                scratch: None,
            }),
            Err(error) => {
                self.free_users.push(uid);
                Err(error)
            }
        }
    }

    fn remove(&mut self, slot: Slot) {
        self.free_users.push(slot.uid);
        self.discard(slot.group);
    }

    /// Whatever still lives in it is killed; the directory goes now or later.
    fn discard(&mut self, group: Group) {
        if self.branch.remove(&group).is_ok() {
            return;
        }
        // Nothing to do about either: the next start removes what stays.
        let _ = group.kill();
        if self.busy.len() < BUSY_MAX {
            self.busy.push(group);
        }
    }
}

impl Slot {
    /// How far user code has come.
    pub fn seen(&self) -> Seen {
        Seen::decode(self.page.read())
    }

    pub fn page(&self) -> BorrowedFd<'_> {
        self.page.descriptor()
    }

    fn renew(&mut self, limits: Limits) -> io::Result<bool> {
        self.page.clear::<3>();
        self.group.renew(limits)
    }
}

impl Scratch {
    fn new(bytes: u64) -> io::Result<Self> {
        Ok(Self {
            bytes,
            tmp: jail::scratch(bytes)?,
            host: jail::scratch(bytes)?,
        })
    }
}
