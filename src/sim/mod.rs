//! The virtual loop. Imports base, policy, engine, config.
