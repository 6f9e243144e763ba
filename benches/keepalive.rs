//! How fast the keep-alive models are: calls a second of processor time, on day traces that are
//! made up.
//!
//! `cargo bench --bench keepalive [-- FILTER]`. Reading or making the trace is not counted. Nor is
//! the time of others: what is read is the processor time of this process, which has one thread.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use olworker::sim::keepalive::classic::{Classic, Edition, Policy};
use olworker::sim::trace::generate::{Kind, Plan};
use olworker::sim::trace::{Arrival, Reader};
use rustix::time::{ClockId, clock_gettime};

const DAY_MS: f64 = 86_400_000.0;
const CALLS: f64 = 1_000_000.0;

fn main() {
    let wanted = std::env::args()
        .nth(1)
        .filter(|argument| !argument.starts_with('-'));
    for (functions, memory_mb) in [(20, 10_000.0), (400, 80_000.0)] {
        for kind in [Kind::Poisson, Kind::Mixed] {
            let plan = Plan {
                kind,
                functions,
                rate: CALLS / DAY_MS * 1e3,
                length_ms: DAY_MS,
                seed: 1,
            };
            let mut reader = Reader::generated(&plan);
            let arrivals = reader.read_to_end().expect("made-up traces are in order");
            for policy in Policy::ALL {
                let name = format!("{functions} {} {}", kind.name(), policy.name());
                if wanted
                    .as_ref()
                    .is_none_or(|wanted| name.contains(wanted.as_str()))
                {
                    let model = Classic::new(
                        &reader.header().functions,
                        policy,
                        Edition::Classic,
                        memory_mb,
                        0,
                    );
                    measure(&name, model, &arrivals);
                }
            }
        }
    }
}

fn measure(name: &str, mut model: Classic, arrivals: &[Arrival]) {
    let start = processor_seconds();
    for &arrival in arrivals {
        std::hint::black_box(model.call(arrival));
    }
    let seconds = processor_seconds() - start;
    let total = model.counts().total();
    println!(
        "{name:28} {:6.2} M calls/s   {:8} hits {:7} misses {:7} drops   pool {}",
        arrivals.len() as f64 / seconds / 1e6,
        total.hits,
        total.misses,
        total.drops,
        model.counts().peak_pool,
    );
}

fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
