//! Keys, bounded slab, time, agenda of deadlines, limits, units, package sets, seeded generator. Imports nothing.
