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
        text: "The cgroup v2 controller that enforces this limit is not at the worker's\n\
               disposal. Functions run, but one that goes beyond the limit is noticed late or\n\
               not at all. Under systemd, the unit needs Delegate=yes and the machine the\n\
               unified hierarchy (systemd.unified_cgroup_hierarchy=1 on the kernel's command\n\
               line). `olworker check` tells what is missing.",
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
        level: Level::Warn,
        subject: "io_uring is not used",
        text: "The kernel or its policy does not offer what the io_uring back end needs; epoll\n\
               is used instead. It is nearly as fast. [io] backend = \"epoll\" chooses it\n\
               silently, backend = \"io_uring\" makes its absence an error.",
    },
    Message {
        name: "zygote-tree",
        id: "290c338281024f98a2b981ebae612681",
        level: Level::Info,
        subject: "One line of the zygote tree",
        text: "The tree is written at start and at the end, and on SIGUSR1: how many sandboxes\n\
               were created from each node, and the packages it has imported.",
    },
    Message {
        name: "zygote-failed",
        id: "1ce59c404a31417cbd0933bdcae74b5e",
        level: Level::Error,
        subject: "A zygote could not be started",
        text: "The node is left out for a while and its functions start from its parent. The\n\
               message says which step failed; `olworker check` tries what zygotes need.",
    },
    Message {
        name: "zygote-import-failed",
        id: "8c70894612984862948d7c1ffec46ee2",
        level: Level::Warn,
        subject: "A zygote could not import a package",
        text: "A package of the zygote tree does not import on this machine, and its functions\n\
               start from the parent node. Install it into the package store, or take it out of\n\
               the tree ([features] import_cache_tree).",
    },
    Message {
        name: "node-left-out",
        id: "6acbb9de2d2543249737d1554fb99959",
        level: Level::Warn,
        subject: "A node of the zygote tree is left out",
        text: "No zygote could be made for it: the message says why. Its functions start from an\n\
               ancestor at once; it is tried again after a while, unless that is hopeless. What\n\
               the interpreter said stands in the lines before.",
    },
    Message {
        name: "node-replicated",
        id: "0f52abb77a7e4a72a0b20ba4572c26fe",
        level: Level::Info,
        subject: "A node of the zygote tree got one more zygote",
        text: "The ones it had forked so much of the time that callers waited for each other. The\n\
               additional ones go when they are not needed any more. Nothing needs to be done.",
    },
    Message {
        name: "node-added",
        id: "7be71f5950684232aff6a4e18dd05375",
        level: Level::Info,
        subject: "A node was added to the zygote tree",
        text: "Functions import these packages at each start, and the tree has no node for them.\n\
               The addition lasts until the tree changes; [policy] dynamic_zygotes = false\n\
               switches it off, `ol fit` makes a tree from the recorded trace.",
    },
    Message {
        name: "memory-pressure",
        id: "944af1c690394128a7dd7a7b8c6ede41",
        level: Level::Info,
        subject: "The machine is short of memory",
        text: "The kernel says that tasks wait for memory, so that idle sandboxes were ended, the\n\
               least worthy first. If this is frequent, the pool is too large for this machine\n\
               ([pool] mem_mb), or others need more than was left to them.",
    },
    Message {
        name: "zygote-has-threads",
        id: "7f12dcf9b36b4063807b793725273abb",
        level: Level::Warn,
        subject: "A zygote cannot fork, because a package started threads",
        text: "Only one thread survives a fork, so a process with several is not forked. The\n\
               functions of this node start from its parent. Take the package out of the tree.",
    },
    Message {
        name: "fork-failed",
        id: "6b210441df1245ba9463ef0f00893a18",
        level: Level::Warn,
        subject: "A sandbox could not be made",
        text: "The call is tried again elsewhere, or answered with 502 or 503. Where it happens\n\
               again and again, the machine is short of memory, processes or descriptors.",
    },
    Message {
        name: "sandbox-failed",
        id: "4c45e6efff0e403fa3b9049eae03d4f4",
        level: Level::Error,
        subject: "A sandbox could not be set up",
        text: "It was born, but a step on the way to the function failed inside it. No code of\n\
               the function has run; the call is tried again. `olworker check` tries what\n\
               sandboxes need.",
    },
    Message {
        name: "protocol-broken",
        id: "7ed70f06cbc24a74a1aeefdfdf2c950e",
        level: Level::Warn,
        subject: "A sandbox said what makes no sense",
        text: "Code inside it wrote to the worker's own channel. The sandbox is ended and its\n\
               call fails; others are not touched. See what the function does.",
    },
    Message {
        name: "function-output",
        id: "a6d3efdaa02f4ace9d1d22314b52ede7",
        level: Level::Info,
        subject: "A function has printed a line",
        text: "Function @FUNCTION@ printed it on @OL_STREAM@, in its instance @INSTANCE@, during\n\
               call @CALL_ID@. `ol logs @FUNCTION@` shows all that is kept of what it printed.",
    },
    Message {
        name: "function-lines-left-out",
        id: "e6515f2c56864aed8b8ccf0d799e1af1",
        level: Level::Warn,
        subject: "Functions print more than the journal gets",
        text: "The journal limits what one service may say, and the worker leaves room for its\n\
               own messages. `ol logs NAME` shows what the journal did not get.",
    },
    Message {
        name: "trace-folded",
        id: "d490a87514104e3cb0310882b4bd6b24",
        level: Level::Warn,
        subject: "The oldest recorded calls were folded to counts",
        text: "The recorded trace exceeds [trace] max_mb. Of its oldest part only how often each\n\
               function was called is kept. Give it more room, or fewer days ([trace] keep_days).",
    },
    Message {
        name: "registry-failed",
        id: "0f65b82e8f4747cfa7b3474d5289621a",
        level: Level::Error,
        subject: "The registry of functions cannot be read or written",
        text: "Uploads and changes fail, functions already known go on. See whether the disk is\n\
               full or the directory of [registry] url was moved or write-protected.",
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
        name: "reload-failed",
        id: "cd2c5a16cba44056bf6e0d466ebf2c7a",
        level: Level::Error,
        subject: "The new configuration is wrong, the old one stays",
        text: "The worker was asked to read its configuration again and found a mistake in it.\n\
               It goes on with the old one. Mend what the message names, try it with `olworker\n\
               check`, then reload again.",
    },
    Message {
        name: "worker-draining",
        id: "5367cbc5b9c4496594753aec59e1d8c6",
        level: Level::Info,
        subject: "The worker is draining",
        text: "It was asked to stop. Calls that run are completed within [http] drain_sec, new\n\
               ones are left to the next worker or refused with 503.",
    },
    Message {
        name: "drain-timed-out",
        id: "d1387a24e1fe4f9db50e558913d8baf2",
        level: Level::Warn,
        subject: "Calls were cut short by the end of the drain",
        text: "The calls counted in the message had not ended when [http] drain_sec was over,\n\
               and their connections were closed. Raise drain_sec (and TimeoutStopSec= of the\n\
               unit above it) if calls may last that long.",
    },
    Message {
        name: "worker-ended",
        id: "cfa134f00f2143c9ab229bd3d5e2bfe0",
        level: Level::Info,
        subject: "The worker has ended",
        text: "Its sandboxes are gone and their control groups removed.",
    },
    Message {
        name: "log-lines-lost",
        id: "5cc94936d81542d5b6f4e2749076c9c8",
        level: Level::Warn,
        subject: "Log lines were lost",
        text: "Whatever takes the worker's log did not keep up, and the worker does not wait\n\
               for it. The message says how many lines are missing before it. See whether\n\
               journald (or syslog) is stuck or its disk full.",
    },
    Message {
        name: "over-memory",
        id: "0555ebd2b14f46c29ff42f6acb0d5cbb",
        level: Level::Warn,
        subject: "A sandbox held more memory than it may",
        text: "The worker measured more than limits.mem_mb and killed the sandbox; its call is\n\
               answered with sandbox-died. Raise mem_mb in the function's ol.toml if need be.",
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
