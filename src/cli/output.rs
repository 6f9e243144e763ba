//! What goes to stdout and stderr: text, tables, lines of progress.
//!
//! A reader who had enough (`ol list | head -1`) is no failure. Tables are plain: left aligned, two
//! blanks between columns, no lines, no colours, so that they read the same in a pipe. Progress is
//! written only to a terminal, and only by what takes longer than a second.

use super::failure::Failure;
use crate::base::{Duration, Time};
use crate::sys::clock;
use serde_json::Value;
use std::io::{self, IsTerminal as _, Write};

/// What a verb answers when all went well.
pub type Done = Result<(), Failure>;

/// Writes to stdout; `Ok` too when nobody reads any more.
pub fn print(text: &str) -> Done {
    print_bytes(text.as_bytes())
}

pub fn print_bytes(bytes: &[u8]) -> Done {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(
            "stdout",
            error.to_string(),
            "make room, or write elsewhere",
        )),
        _ => Ok(()),
    }
}

/// Whether stdout still has a reader; streams end when it has none.
pub fn print_stream(bytes: &[u8]) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::failed(
            "stdout",
            error.to_string(),
            "make room, or write elsewhere",
        )),
    }
}

pub fn print_json(value: &Value) -> Done {
    print(&format!("{value}\n"))
}

/// Writes to stderr; nothing can be done when that fails.
pub fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// A table: the heads of its columns, and rows.
#[derive(Debug)]
pub struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(heads: &[&'static str]) -> Self {
        Self {
            heads: heads.to_vec(),
            rows: Vec::new(),
        }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.heads.len(), "a row has a cell for each column");
        self.rows
            .push(cells.map(|cell| super::failure::one_line(&cell)).to_vec());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let heads: Vec<String> = self.heads.iter().map(ToString::to_string).collect();
        let lines = || std::iter::once(&heads).chain(&self.rows);
        let width = |column: usize| {
            let cells = lines().map(move |line| line[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        for line in lines() {
            use std::fmt::Write as _;
            let mut text = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                write!(text, "{cell:width$}  ")?;
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// When progress begins to show.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);
/// The shortest time between two lines of it.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// A line on the terminal that is written over and over; nothing where stderr is no terminal.
#[derive(Debug)]
pub struct Progress {
    next: Option<Time>,
    shown: bool,
}

impl Progress {
    pub fn start(quiet: bool) -> Self {
        let terminal = !quiet && io::stderr().is_terminal();
        Self {
            next: terminal.then(|| clock::now() + PROGRESS_AFTER),
            shown: false,
        }
    }

    /// Shows what `line` says, if it is time to.
    pub fn show(&mut self, line: impl FnOnce() -> String) {
        let now = clock::now();
        if self.next.is_some_and(|next| now >= next) {
            tell(&format!("\r\u{1b}[K{}", super::failure::one_line(&line())));
            self.next = Some(now + PROGRESS_EVERY);
            self.shown = true;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            tell("\r\u{1b}[K");
        }
    }
}

/// Bytes as people read them.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain() {
        let mut table = Table::new(&["NAME", "VERSION"]);
        table.row(["hello".to_owned(), "1".to_owned()]);
        table.row(["a\u{1b}[31m".to_owned(), "12".to_owned()]);
        assert_eq!(
            table.to_string(),
            "NAME         VERSION\nhello        1\na\\u{1b}[31m  12\n"
        );
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TB");
    }
}
