//! The two system call filters of a sandbox.
//!
//! The *broad* filter is installed once, before the interpreter of a zygote starts, and inherited
//! by whatever it forks for nothing: what no function needs and what would only widen the attack
//! on the kernel is answered ENOSYS, so that libraries fall back. It still lets through what a
//! birth takes (clone3, mount, move_mount, setns). The *last* filter closes those, as the last step
//! of a birth; its length is on the path of every cold call (a filter of 14 instructions takes
//! 35 us to install, one of 60 takes 172 us), so it relies on the broad one for the rest: the
//! architecture, unshare, pivot_root, the other mount calls.
//!
//! Neither is what holds a sandbox in: that is the user namespace, no capabilities, no new
//! privileges. They take away what a hole in the kernel could be reached through.

use seccompiler::sock_filter;
use std::io;

/// A filter of any length.
pub type Program = Vec<sock_filter>;

/// Newest system call we know of (futex_requeue, Linux 6.7); newer ones do not exist for a sandbox.
const NEWEST: u32 = 456;

/// What no function needs. All of it is answered ENOSYS.
const REFUSED: &[libc::c_long] = &[
    // Other processes' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
    libc::SYS_set_mempolicy_home_node,
    // Large and rarely needed parts of the kernel, where holes keep being found.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_lookup_dcookie,
    libc::SYS_personality,
    libc::SYS_syslog,
    // The machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_nfsservctl,
    libc::SYS_vhangup,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_adjtimex,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    // Mounts and namespaces, but for what a birth takes.
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
];

/// The same for what only this architecture has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[libc::c_long] = &[
    libc::SYS_modify_ldt,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[libc::c_long] = &[];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: u32 = 0xc000_00f3;

/// Offsets in what a filter sees of a call (`struct seccomp_data`; arguments little endian).
const NUMBER: u32 = 0;
const ARCHITECTURE_OF_CALL: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35;
const JUMP_IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const FAIL_WITH: u32 = 0x0005_0000;

/// More on the path of every cold call costs more than it is worth.
const LAST_INSTRUCTIONS: usize = 14;

/// Flags of clone that only a zygote may use.
const KINSHIP_AND_NAMESPACES: u32 = (libc::CLONE_PARENT
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u32;

const fn instruction(code: u16, value: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter {
        code,
        jt: then,
        jf: otherwise,
        k: value,
    }
}

/// The filter for a whole zygote: allowed are the system calls up to the newest known, less the
/// refused ones.
///
/// Numbers are cut into segments of one verdict each, tested from below with one instruction a
/// segment: an instruction for each call would make the filter ten times as long.
#[must_use]
pub fn broad() -> Program {
    let segments = segments();
    let mut program = vec![
        instruction(LOAD, ARCHITECTURE_OF_CALL, 0, 0),
        instruction(JUMP_IF_EQUAL, ARCHITECTURE, 0, segments.len() as u8 + 1),
        instruction(LOAD, NUMBER, 0, 0),
    ];
    for (place, segment) in segments.iter().enumerate() {
        let to_refusal = (segments.len() - place - 1) as u8;
        let verdict = to_refusal + u8::from(segment.allowed);
        program.push(instruction(
            JUMP_IF_GREATER_OR_EQUAL,
            segment.end,
            0,
            verdict,
        ));
    }
    program.push(instruction(RETURN, FAIL_WITH | libc::ENOSYS as u32, 0, 0));
    program.push(instruction(RETURN, ALLOW, 0, 0));
    program
}

/// Numbers of one verdict, from the end of the segment before up to (without) `end`.
struct Segment {
    end: u32,
    allowed: bool,
}

fn segments() -> Vec<Segment> {
    let mut refused: Vec<u32> = REFUSED
        .iter()
        .chain(REFUSED_HERE)
        .map(|number| *number as u32)
        .collect();
    refused.sort_unstable();
    let mut segments: Vec<Segment> = Vec::new();
    let mut start = 0;
    for number in refused {
        if number > start {
            segments.push(Segment {
                end: number,
                allowed: true,
            });
        }
        match segments.last_mut() {
            Some(last) if !last.allowed => last.end = number + 1,
            _ => segments.push(Segment {
                end: number + 1,
                allowed: false,
            }),
        }
        start = number + 1;
    }
    if start <= NEWEST {
        segments.push(Segment {
            end: NEWEST + 1,
            allowed: true,
        });
    }
    assert!(segments.len() < 128, "jumps span at most 255 instructions");
    segments
}

/// The last step of a birth: from here on no new namespace, no mount, no sibling, no way to outlive
/// the worker. clone3 does not exist (its flags are out of a filter's sight), so that glibc falls
/// back to clone.
#[must_use]
pub const fn last() -> [sock_filter; LAST_INSTRUCTIONS] {
    const CLONE: u8 = 7;
    const PRCTL: u8 = 9;
    const PASS: u8 = 11;
    const REFUSE: u8 = 12;
    const MISSING: u8 = 13;
    /// At `here`: to `there` when the number is this one, else to the next instruction.
    const fn equal(here: u8, number: libc::c_long, there: u8) -> sock_filter {
        instruction(JUMP_IF_EQUAL, number as u32, there - here - 1, 0)
    }
    [
        instruction(LOAD, NUMBER, 0, 0),
        equal(1, libc::SYS_clone3, MISSING),
        equal(2, libc::SYS_clone, CLONE),
        equal(3, libc::SYS_prctl, PRCTL),
        equal(4, libc::SYS_mount, REFUSE),
        equal(5, libc::SYS_move_mount, REFUSE),
        instruction(JUMP_IF_EQUAL, libc::SYS_setns as u32, REFUSE - 7, PASS - 7),
        instruction(LOAD, FIRST_ARGUMENT, 0, 0),
        instruction(
            JUMP_IF_ANY_BIT,
            KINSHIP_AND_NAMESPACES,
            REFUSE - 9,
            PASS - 9,
        ),
        instruction(LOAD, FIRST_ARGUMENT, 0, 0),
        instruction(
            JUMP_IF_EQUAL,
            libc::PR_SET_PDEATHSIG as u32,
            REFUSE - 11,
            PASS - 11,
        ),
        instruction(RETURN, ALLOW, 0, 0),
        instruction(RETURN, FAIL_WITH | libc::EPERM as u32, 0, 0),
        instruction(RETURN, FAIL_WITH | libc::ENOSYS as u32, 0, 0),
    ]
}

/// What it takes to read a file that is open, to write others below one directory, and to use
/// memory.
const UNPACKING: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_mkdirat,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The filter of a process that unpacks an archive. Everything that is not in its short list does
/// not exist for it.
#[must_use]
pub fn unpacking() -> Program {
    let count = UNPACKING.len();
    assert!(count < 200, "jumps span at most 255 instructions");
    let mut program = vec![
        instruction(LOAD, ARCHITECTURE_OF_CALL, 0, 0),
        instruction(JUMP_IF_EQUAL, ARCHITECTURE, 0, count as u8 + 1),
        instruction(LOAD, NUMBER, 0, 0),
    ];
    for (place, number) in UNPACKING.iter().enumerate() {
        let to_pass = (count - place) as u8;
        program.push(instruction(JUMP_IF_EQUAL, *number as u32, to_pass, 0));
    }
    program.push(instruction(RETURN, FAIL_WITH | libc::ENOSYS as u32, 0, 0));
    program.push(instruction(RETURN, ALLOW, 0, 0));
    program
}

/// Sets no_new_privs and installs a filter, for this thread and all it starts. Does not allocate.
pub fn install(program: &[sock_filter]) -> io::Result<()> {
    seccompiler::apply_filter(program).map_err(|error| match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
        _ => io::ErrorKind::InvalidInput.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a call, by walking the program.
    fn verdict(program: &[sock_filter], architecture: u32, number: u32, argument: u32) -> u32 {
        let mut loaded = 0;
        let mut place = 0;
        loop {
            let step = &program[place];
            let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            place += 1;
            match step.code {
                LOAD => {
                    loaded = match step.k {
                        NUMBER => number,
                        ARCHITECTURE_OF_CALL => architecture,
                        FIRST_ARGUMENT => argument,
                        other => panic!("offset {other}"),
                    }
                }
                JUMP_IF_EQUAL => place += jump(loaded == step.k),
                JUMP_IF_GREATER_OR_EQUAL => place += jump(loaded >= step.k),
                JUMP_IF_ANY_BIT => place += jump(loaded & step.k != 0),
                RETURN => return step.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    const MISSING: u32 = FAIL_WITH | libc::ENOSYS as u32;
    const REFUSED_VERDICT: u32 = FAIL_WITH | libc::EPERM as u32;

    #[test]
    fn the_broad_filter_refuses_exactly_the_refused() {
        let program = broad();
        for number in 0..1024 {
            let refused = REFUSED
                .iter()
                .chain(REFUSED_HERE)
                .any(|one| *one as u32 == number);
            let expected = if refused || number > NEWEST {
                MISSING
            } else {
                ALLOW
            };
            assert_eq!(
                verdict(&program, ARCHITECTURE, number, 0),
                expected,
                "{number}"
            );
        }
    }

    #[test]
    fn a_foreign_architecture_has_no_system_calls() {
        let program = broad();
        for number in 0..500 {
            assert_eq!(verdict(&program, 0x4000_0003, number, 0), MISSING);
            // x32 calls carry a high bit under the same architecture.
            assert_eq!(
                verdict(&program, ARCHITECTURE, number | 0x4000_0000, 0),
                MISSING
            );
        }
    }

    #[test]
    fn the_broad_filter_is_short_and_lets_a_birth_through() {
        let program = broad();
        assert!(program.len() < 100, "{} instructions", program.len());
        for number in [
            libc::SYS_clone3,
            libc::SYS_mount,
            libc::SYS_move_mount,
            libc::SYS_setns,
            libc::SYS_sethostname,
            libc::SYS_setresuid,
            libc::SYS_seccomp,
            libc::SYS_execve,
        ] {
            assert_eq!(
                verdict(&program, ARCHITECTURE, number as u32, 0),
                ALLOW,
                "{number}"
            );
        }
    }

    #[test]
    fn the_last_filter_closes_what_a_birth_took() {
        let program = last();
        let ask = |number: libc::c_long, argument: i32| {
            verdict(&program, ARCHITECTURE, number as u32, argument as u32)
        };
        assert_eq!(ask(libc::SYS_clone3, 0), MISSING);
        for number in [libc::SYS_mount, libc::SYS_move_mount, libc::SYS_setns] {
            assert_eq!(ask(number, 0), REFUSED_VERDICT);
        }
        assert_eq!(
            ask(libc::SYS_prctl, libc::PR_SET_PDEATHSIG),
            REFUSED_VERDICT
        );
        assert_eq!(ask(libc::SYS_prctl, libc::PR_SET_NAME), ALLOW);
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNET, libc::CLONE_PARENT] {
            assert_eq!(ask(libc::SYS_clone, flag | libc::SIGCHLD), REFUSED_VERDICT);
        }
        let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
        assert_eq!(ask(libc::SYS_clone, thread), ALLOW);
        assert_eq!(ask(libc::SYS_clone, libc::SIGCHLD), ALLOW);
        for number in 0..i64::from(NEWEST) {
            let closed = [
                libc::SYS_clone3,
                libc::SYS_mount,
                libc::SYS_move_mount,
                libc::SYS_setns,
            ];
            if !closed.contains(&number) {
                assert_eq!(ask(number, 0), ALLOW, "{number}");
            }
        }
    }
}
