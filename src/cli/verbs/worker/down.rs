//! `ol worker down`: drain and stop, each step told.

use super::super::super::definition::Context;
use super::super::super::failure::Failure;
use super::super::super::output::{Done, Progress};
use super::super::super::pid_file::{Owner, Running};
use super::{Place, step};
use crate::base::Duration;
use crate::config::{Machine, Request, load};
use crate::sys::clock;
use std::io;

/// Beyond `drain_sec`: sandboxes are killed and cleared away.
const AFTER_DRAIN: Duration = Duration::from_secs(20);
/// The time between two lines of progress.
const LOOK: Duration = Duration::from_millis(200);

pub fn run(context: &Context, place: &Place) -> Done {
    let running = match place.owner()? {
        Owner::Lives(running) => running,
        Owner::Nobody | Owner::Dead(_) => {
            return step(
                context,
                &format!("no worker runs in {}", place.typed.display()),
            );
        }
    };
    let pid = running.pid;
    // Two witnesses, the lock on its pid file and what answers on its socket, must not disagree.
    match place.pid_by_socket() {
        Some(other) if other != pid => {
            let why = format!("its pid file says {pid}, its socket {other}");
            let remedy = "ol worker force-cleanup clears it";
            return Err(Failure::failed(format!("worker {pid}"), why, remedy));
        }
        Some(_) => {}
        None => step(
            context,
            &format!("worker {pid}: it does not answer; it is stopped anyway"),
        )?,
    }
    let drain = drain(place);
    let failed = |error: io::Error| {
        Failure::failed(
            format!("worker {pid}"),
            error.to_string(),
            "ol worker force-cleanup",
        )
    };
    running.terminate().map_err(failed)?;
    let text = format!(
        "worker {pid}: told to stop; running calls have {} s",
        drain.as_secs()
    );
    step(context, &text)?;
    let begin = clock::now();
    if !ends(&running, context, drain + AFTER_DRAIN).map_err(failed)? {
        let why = format!(
            "it still runs {} s after it was told to stop",
            drain.as_secs()
        );
        return Err(Failure::failed(
            format!("worker {pid}"),
            why,
            "ol worker force-cleanup",
        ));
    }
    let seconds = clock::now().since(begin).as_secs_f64();
    step(
        context,
        &format!("worker {pid}: ended after {seconds:.1} s"),
    )
}

/// How long running calls have, as the running worker was told.
fn drain(place: &Place) -> Duration {
    let running = Request {
        directory: Some(place.directory().clone()),
        file: Some(place.home.effective_file()),
        ..Request::default()
    };
    let file = Request {
        directory: running.directory.clone(),
        ..Request::default()
    };
    let loaded = load(&running, Machine::UNKNOWN).or_else(|_| load(&file, Machine::UNKNOWN));
    loaded.map_or(Duration::from_secs(30), |loaded| loaded.config.http.drain)
}

fn ends(running: &Running, context: &Context, within: Duration) -> io::Result<bool> {
    let begin = clock::now();
    let deadline = begin + within;
    let mut progress = Progress::start(context.quiet || context.json);
    loop {
        if running.ends_within(LOOK)? {
            return Ok(true);
        }
        let now = clock::now();
        if now >= deadline {
            return Ok(false);
        }
        let seconds = now.since(begin).as_secs();
        progress.show(|| format!("worker {}: draining, {seconds} s", running.pid));
    }
}
