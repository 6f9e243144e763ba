//! How big this machine is, as far as this process may use it.

use std::fs;
use std::path::Path;

/// All memory of the machine.
pub fn ram_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    #[expect(
        clippy::useless_conversion,
        reason = "the kernel's word is 32 bits on some machines"
    )]
    u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit))
}

/// The least memory limit of a cgroup v2 group and its ancestors; `None`: there is none.
pub fn memory_limit_bytes(group: &Path) -> Option<u64> {
    let limit = |group: &Path| {
        let text = fs::read_to_string(group.join("memory.max")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    group.ancestors().filter_map(limit).min()
}

/// CPUs that this process may run on.
pub fn cpus() -> u32 {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => set.count().max(1),
        Err(_) => 1,
    }
}

/// The kernel's own name for its version, as `6.1.0-37-amd64`.
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// A number nobody can guess, for what must differ from one life of the worker to the next.
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    let flags = rustix::rand::GetRandomFlags::empty();
    rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut bytes, flags))
        .expect("the kernel gives eight bytes to everybody");
    u64::from_ne_bytes(bytes)
}

/// Raises the soft limit of open descriptors to the hard one; answers what it is now.
pub fn raise_descriptor_limit() -> std::io::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Whether this process may do everything on this machine.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_a_size() {
        assert!(ram_bytes() > 64 << 20);
        assert!(cpus() >= 1);
        assert!(kernel_release().contains('.'));
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let name = format!("olworker-machine-{}", std::process::id());
        let outer = std::env::temp_dir().join(name);
        let inner = outer.join("inner/leaf");
        fs::create_dir_all(&inner).unwrap();
        assert_eq!(memory_limit_bytes(&inner), None);
        fs::write(outer.join("memory.max"), "1000\n").unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        assert_eq!(memory_limit_bytes(&inner), Some(1000));
        fs::write(inner.join("memory.max"), "400\n").unwrap();
        assert_eq!(memory_limit_bytes(&inner), Some(400));
        fs::remove_dir_all(&outer).unwrap();
    }
}
