//! Every message an operator may wait for, with the id that names it for ever.
//!
//! A room that has one of them to say logs it through the facade and names it:
//! `log::info!(event = "worker-ready", backend = "epoll"; "ready on ...")`. The journal then gets
//! MESSAGE_ID (what `journalctl MESSAGE_ID=...` and `journalctl -x` go by) and OL_EVENT; the text
//! below is what `-x` explains. `systemd/olworker.catalog` is this table in another dress: a test
//! holds them equal. An id is never reused and never changed.

use core::fmt::Write;
use log::Level;

/// One operator-visible message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// What rooms call it: `event = "..."`.
    pub name: &'static str,
    /// 128 bits, in the journal's notation.
    pub id: &'static str,
    /// How loud it is said.
    pub level: Level,
    /// The catalog's subject line.
    pub subject: &'static str,
    /// The catalog's text: what it means and what to do. `@FIELD@` is filled in by journalctl.
    pub text: &'static str,
}

/// The message of that name.
pub fn find(name: &str) -> Option<&'static Message> {
    MESSAGES.iter().find(|message| message.name == name)
}

/// The journal catalog of this table, as installed in /usr/lib/systemd/catalog.
pub fn catalog() -> String {
    let mut out = String::from(
        "# The messages of olworker; `journalctl -x` shows them.\n\
         # Made from src/host/log/messages.rs, which a test compares with this file.\n",
    );
    for message in MESSAGES {
        let _ = write!(
            out,
            "\n-- {}\nSubject: {}\nDefined-By: olworker\nSupport: man:olworker(8)\n\n{}\n",
            message.id, message.subject, message.text
        );
    }
    out
}

/// In the order of a worker's life.
pub const MESSAGES: &[Message] = &[
    Message {
        name: "worker-ready",
        id: "d28c7a9c8db54c8f95422bbc2e806de8",
        level: Level::Info,
        subject: "The worker is ready",
        text: "It listens, its configuration was read, and what the machine lacks was said\n\
               before. Calls are taken from now on; GET /status answers 200.",
    },
    Message {
        name: "limits-not-enforced",
        id: "35771b615f9b4c22b041c81083371313",
        level: Level::Warn,
        subject: "A limit cannot be enforced by the kernel",
        text: "The cgroup v2 controller that enforces this limit is not at the worker's disposal.\n\
               Functions run, but one that goes beyond the limit is noticed late or not at all.\n\
               Under systemd, the unit needs Delegate=yes and the machine the unified hierarchy\n\
               (systemd.unified_cgroup_hierarchy=1 on the kernel's command line).\n\
               `olworker check` tells what is missing.",
    },
    Message {
        name: "leftovers-cleared",
        id: "bf12d87803da484ea3398ee14789242c",
        level: Level::Warn,
        subject: "Control groups of a dead worker were cleared",
        text: "A worker ended without clearing up (killed, or the machine was short of memory).\n\
               Processes that were still in its groups were killed and the groups removed.\n\
               Nothing needs to be done.",
    },
    Message {
        name: "io-fallback",
        id: "398dfd3501684b4b8d18290b64d346c7",
        level: Level::Info,
        subject: "io_uring is not used",
        text: "The kernel or its policy does not offer what the io_uring back end needs; epoll is\n\
               used instead. It is nearly as fast. [io] backend = \"epoll\" chooses it silently,\n\
               backend = \"io_uring\" makes its absence an error.",
    },
    Message {
        name: "configuration-reloaded",
        id: "2e2f0bef8c6d4ee193e1b12b8ae52d54",
        level: Level::Info,
        subject: "The configuration was read again",
        text: "What can be changed in a running worker now is. Keys named in the message keep\n\
               their old values until the next restart.",
    },
    Message {
        name: "reload-refused",
        id: "cd2c5a16cba44056bf6e0d466ebf2c7a",
        level: Level::Error,
        subject: "The new configuration is wrong, the old one stays",
        text: "The worker was asked to read its configuration again and found a mistake in it.\n\
               It goes on with the old one. Mend what the message names, try it with\n\
               `olworker check`, then reload again.",
    },
    Message {
        name: "worker-draining",
        id: "5367cbc5b9c4496594753aec59e1d8c6",
        level: Level::Info,
        subject: "The worker is draining",
        text: "It was asked to stop. Calls that run are completed within [http] drain_sec,\n\
               new ones are left to the next worker or refused with 503.",
    },
    Message {
        name: "drain-cut-short",
        id: "d1387a24e1fe4f9db50e558913d8baf2",
        level: Level::Warn,
        subject: "Calls were cut short by the end of the drain",
        text: "The calls counted in the message had not ended when [http] drain_sec was over, and\n\
               their connections were closed. Raise drain_sec (and TimeoutStopSec= of the unit\n\
               above it) if calls may last that long.",
    },
    Message {
        name: "worker-stopped",
        id: "cfa134f00f2143c9ab229bd3d5e2bfe0",
        level: Level::Info,
        subject: "The worker has stopped",
        text: "Its sandboxes are gone and their control groups removed.",
    },
    Message {
        name: "configuration-wrong",
        id: "9f970acb80c54738874474b91997743d",
        level: Level::Error,
        subject: "The worker cannot start with this configuration",
        text: "The message names the file, the line, the key and the remedy; `olworker check`\n\
               says the same without starting anything. The unit is not restarted until it is started\n\
               by hand (exit status 78).",
    },
    Message {
        name: "log-lines-lost",
        id: "5cc94936d81542d5b6f4e2749076c9c8",
        level: Level::Warn,
        subject: "Log lines were lost",
        text: "Whatever takes the worker's log did not keep up, and the worker does not wait\n\
               for it. The message says how many lines are missing before it. See whether journald (or\n\
               syslog) is stuck or its disk full.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_ids_are_unique_and_well_formed() {
        let mut seen = BTreeSet::new();
        for message in MESSAGES {
            assert!(seen.insert(message.name), "{} twice", message.name);
            assert!(seen.insert(message.id), "{} twice", message.id);
            assert_eq!(message.id.len(), 32, "{}", message.name);
            assert!(
                message
                    .id
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            );
            assert!(
                message
                    .name
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'-'))
            );
            assert!(
                message.text.lines().all(|line| line.len() <= 90),
                "{}",
                message.name
            );
        }
    }

    #[test]
    fn the_shipped_catalog_is_this_table() {
        if std::env::var_os("OLWORKER_WRITE").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/olworker.catalog");
            std::fs::write(path, catalog()).unwrap();
        }
        let shipped = include_str!("../../../systemd/olworker.catalog");
        assert_eq!(
            shipped,
            catalog(),
            "run this test twice with OLWORKER_WRITE=1 to write it anew"
        );
    }
}
