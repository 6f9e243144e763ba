//! The live loop. Imports everything but sim.
