//! What CPython wants to be told about a fork, found in the running process.
//!
//! The names are exported by every CPython since 3.7, whether it is one program or a shared
//! library; no header and no link is needed. In a process without Python (tests) there are none,
//! and nothing is called.

use core::ffi::CStr;
use core::mem::transmute;

type Hook = unsafe extern "C" fn();

/// Python's three steps around a fork. All or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hooks {
    found: Option<[Hook; 3]>,
}

impl Hooks {
    pub(super) fn find() -> Self {
        let find = |name: &CStr| {
            // SAFETY: a C string; looks in what is loaded already.
            let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            (!address.is_null()).then(|| {
                // SAFETY: functions of this name take and return nothing, by Python's C API.
                unsafe { transmute::<*mut libc::c_void, Hook>(address) }
            })
        };
        let names = [
            c"PyOS_BeforeFork",
            c"PyOS_AfterFork_Parent",
            c"PyOS_AfterFork_Child",
        ];
        let [before, parent, child] = names.map(find);
        Self {
            found: before.zip(parent).zip(child).map(|((b, p), c)| [b, p, c]),
        }
    }

    /// Takes the locks that must not be held by anybody at the fork.
    pub(super) fn before(self) {
        self.call(0);
    }

    pub(super) fn after_in_parent(self) {
        self.call(1);
    }

    /// Gives every lock and thread state to the only thread there is, then runs what packages
    /// registered with `os.register_at_fork`.
    pub(super) fn after_in_child(self) {
        self.call(2);
    }

    fn call(self, which: usize) {
        if let Some(hooks) = self.found {
            // SAFETY: Python's own function, called as os.fork calls it: on Python's only thread,
            // which holds the GIL.
            unsafe { hooks[which]() };
        }
    }
}
