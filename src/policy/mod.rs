//! Decisions, with no state of the world. Imports base.
