//! Bytes to heads, framing, and the one refusal table. Imports base.
