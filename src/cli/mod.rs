//! argv, wiring, exit codes. May import everything.

use std::process::ExitCode;

/// The tool a person types.
pub fn ol() -> ExitCode {
    ExitCode::from(2)
}

/// The daemon.
pub fn olworker() -> ExitCode {
    ExitCode::from(2)
}
