//! Frames between worker, zygote and instance. Imports base.
