//! The Python runtime, through its wire: what a caller gets for what a function does.

mod asgi;
mod frameworks;
mod instance;
mod plain;
mod process;
mod uniqueness;
mod wsgi;
