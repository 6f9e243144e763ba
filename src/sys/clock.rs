//! The only place that reads a clock. The driver reads it once a turn and hands `now` on.

use crate::base::{Duration, Time};
use rustix::time::{ClockId, clock_gettime};

/// Time since the machine started, time asleep left out; it never goes back.
pub fn now() -> Time {
    let now = clock_gettime(ClockId::Monotonic);
    Time::from_nanos(now.tv_sec as u64 * NANOS_PER_SECOND + now.tv_nsec as u64)
}

/// Time since 1970 in UTC, for what people and other programs read. It may jump.
pub fn wall() -> Duration {
    let now = clock_gettime(ClockId::Realtime);
    // A clock set before 1970 reads as 1970.
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), now.tv_nsec as u32)
}

/// Processor time that this process has used, all its threads together.
pub fn processor() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn time_never_goes_back() {
        let mut last = now();
        for _ in 0..1000 {
            let next = now();
            assert!(next >= last);
            last = next;
        }
        assert!(last > Time::ZERO);
    }

    #[test]
    fn the_wall_clock_is_the_one_of_the_file_system() {
        let before = wall();
        let file = std::env::temp_dir().join(format!("olworker-clock-{}", std::process::id()));
        std::fs::write(&file, b"").unwrap();
        let written = std::fs::metadata(&file).unwrap().modified().unwrap();
        std::fs::remove_file(&file).unwrap();
        let written = written.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        // File times are those of the last timer tick.
        let tick = Duration::from_millis(100);
        assert!(written + tick >= before && written <= wall() + tick);
    }
}
