//! The closed vocabularies of the configuration: keys whose value is one word of a few.
//!
//! Each is an enum whose order is the order in which help and errors list the words. Those of
//! `[policy]` are the policies' own.

/// An enum with one word a variant, the list of its words, and the way back from a word.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            pub const WORDS: &'static [&'static str] = &[$($word,)+];

            /// The word that is typed for it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            pub const fn index(self) -> usize {
                self as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words! {
    /// `[io] backend`.
    Backend {
        /// io_uring where the kernel lets us, else epoll, with the reason in the log.
        Auto = "auto",
        Epoll = "epoll",
        IoUring = "io_uring",
    }
}

words! {
    /// What happens to a running call whose client hung up.
    OnHangup {
        /// It runs to its end; the answer is thrown away.
        Finish = "finish",
        /// Its instance is killed.
        Kill = "kill",
    }
}

words! {
    /// `[features] import_cache`.
    ImportCache {
        /// One tree of zygotes; a saturated node is replicated.
        Tree = "tree",
        /// Several whole trees, a number chosen by CPUs.
        Multitree = "multitree",
        /// No zygotes: every instance is a fresh interpreter.
        Off = "",
    }
}

words! {
    /// The network of an instance.
    Network {
        Host = "host",
        /// Loopback only, a network namespace for each function.
        Nothing = "none",
    }
}

words! {
    /// `[log] target`.
    LogTarget {
        /// The journal where JOURNAL_STREAM says that stderr is the journal, else stderr.
        Auto = "auto",
        Journal = "journal",
        Syslog = "syslog",
        Stderr = "stderr",
    }
}

words! {
    /// `[log] level`: the least important lines still written.
    LogLevel {
        Error = "error",
        Warn = "warn",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
}

impl LogLevel {
    pub const fn filter(self) -> log::LevelFilter {
        match self {
            Self::Error => log::LevelFilter::Error,
            Self::Warn => log::LevelFilter::Warn,
            Self::Info => log::LevelFilter::Info,
            Self::Debug => log::LevelFilter::Debug,
            Self::Trace => log::LevelFilter::Trace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_word_and_list_agree() {
        for (index, level) in LogLevel::ALL.iter().enumerate() {
            assert_eq!(level.index(), index);
            assert_eq!(level.word(), LogLevel::WORDS[index]);
        }
        assert_eq!(ImportCache::Off.to_string(), "");
    }
}
