//! The truth about functions, calls, instances, zygotes, memory: events in, effects out. Imports base, policy.
