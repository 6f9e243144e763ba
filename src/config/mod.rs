//! TOML to what was typed to what it means; trees and traces on disk. Imports base, policy.
