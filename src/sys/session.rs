//! A program that outlives the terminal it was started from.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has the command run in a session of its own: no terminal, and no signal that one sends.
pub fn of_its_own(command: &mut Command) -> &mut Command {
    // SAFETY: the function makes one system call, which is safe between fork and exec.
    unsafe { command.pre_exec(leave) }
}

fn leave() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_leads_its_session() {
        let mut command = Command::new("cat");
        let output = of_its_own(command.arg("/proc/self/stat")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        // pid (comm) state ppid pgrp session
        let (pid, rest) = text.split_once(" (cat) ").unwrap();
        let session = rest.split(' ').nth(3).unwrap();
        assert_eq!(session, pid);
    }
}
