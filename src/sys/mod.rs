//! The only unsafe: what rustix does not have. Imports base.
