//! The plain trace: one JSON object `{"functions": [[name, mem_mb, cold_ms, warm_ms], ...],
//! "events": [[t_ms, index], ...]}`, other keys skipped.
//!
//! The functions must be known before the first event, so a file that has them behind its events is
//! read twice; either way no more than the functions is held. The file is read to its closing
//! brace: a truncated one is refused even when every event in it was good.

use super::bytes::{self, Bytes, Progress};
use super::lexer::Lexer;
use super::{Arrival, FUNCTIONS_MAX, Function, Header, TraceError, check_function};
use std::path::Path;

/// Stands inside the list of events.
#[derive(Debug)]
pub struct Arrivals {
    lexer: Lexer,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first event.
    First,
    /// Behind an event.
    Behind,
    /// The object is closed.
    Done,
}

pub fn open(
    path: &Path,
    first: Bytes,
    progress: Progress,
) -> Result<(Header, Arrivals, Progress), TraceError> {
    let mut lexer = Lexer::new(first);
    let mut functions = None;
    if !to_events(&mut lexer, &mut functions)? {
        return Err(lexer.refuse("there is no `events` list in it"));
    }
    if let Some(functions) = functions {
        let arrivals = Arrivals {
            lexer,
            state: State::First,
        };
        return Ok((
            Header {
                functions,
                ..Header::default()
            },
            arrivals,
            progress,
        ));
    }
    lexer.skip()?;
    if !rest_has_functions(&mut lexer, &mut functions)? {
        return Err(lexer.refuse("there is no `functions` list in it"));
    }
    let functions = functions.expect("they were found just now");
    let (again, progress) = bytes::open(path)?;
    let mut lexer = Lexer::new(again);
    if lexer.peek()?.is_none() || !to_events(&mut lexer, &mut None)? {
        let why = "`functions` come after `events`, so it is read twice";
        return Err(lexer.refuse(why).remedied("save it to a file first"));
    }
    let arrivals = Arrivals {
        lexer,
        state: State::First,
    };
    Ok((
        Header {
            functions,
            ..Header::default()
        },
        arrivals,
        progress,
    ))
}

/// Goes through the object's keys up to `events`; reads `functions` if it meets them.
fn to_events(lexer: &mut Lexer, functions: &mut Option<Vec<Function>>) -> Result<bool, TraceError> {
    lexer.expect(b'{')?;
    let mut more = lexer.first(b'}')?;
    while more {
        let key = lexer.string()?;
        lexer.expect(b':')?;
        match key.as_str() {
            "events" => return Ok(true),
            "functions" => *functions = Some(read_functions(lexer)?),
            _ => lexer.skip()?,
        }
        more = lexer.another(b'}')?;
    }
    Ok(false)
}

fn rest_has_functions(
    lexer: &mut Lexer,
    functions: &mut Option<Vec<Function>>,
) -> Result<bool, TraceError> {
    while lexer.another(b'}')? {
        let key = lexer.string()?;
        lexer.expect(b':')?;
        if key == "functions" {
            *functions = Some(read_functions(lexer)?);
            return Ok(true);
        }
        lexer.skip()?;
    }
    Ok(false)
}

fn read_functions(lexer: &mut Lexer) -> Result<Vec<Function>, TraceError> {
    let mut functions = Vec::new();
    lexer.expect(b'[')?;
    let mut more = lexer.first(b']')?;
    while more {
        if functions.len() == FUNCTIONS_MAX {
            return Err(lexer.refuse(format!("more than {FUNCTIONS_MAX} functions")));
        }
        let function = read_function(lexer)?;
        check_function(&function).map_err(|why| lexer.refuse(why))?;
        functions.push(function);
        more = lexer.another(b']')?;
    }
    Ok(functions)
}

fn read_function(lexer: &mut Lexer) -> Result<Function, TraceError> {
    lexer.expect(b'[')?;
    let name = match lexer.peek()? {
        Some(b'"') => lexer.string()?,
        _ => format!("{}", lexer.number()?),
    };
    let mut costs = [0.0; 3];
    for cost in &mut costs {
        lexer.expect(b',')?;
        *cost = lexer.number()?;
    }
    // Columns to come are skipped, as unknown keys are.
    while lexer.another(b']')? {
        lexer.skip()?;
    }
    let [mem_mb, cold_ms, warm_ms] = costs;
    Ok(Function::plain(name, mem_mb, cold_ms, warm_ms))
}

impl Arrivals {
    pub fn line(&self) -> u64 {
        self.lexer.line()
    }

    pub fn next(&mut self) -> Result<Option<Arrival>, TraceError> {
        let more = match self.state {
            State::First => {
                self.lexer.expect(b'[')?;
                self.lexer.first(b']')?
            }
            State::Behind => self.lexer.another(b']')?,
            State::Done => return Ok(None),
        };
        if !more {
            self.close()?;
            return Ok(None);
        }
        self.state = State::Behind;
        self.lexer.expect(b'[')?;
        let t_ms = self.lexer.number()?;
        self.lexer.expect(b',')?;
        let index = self.lexer.number()?;
        while self.lexer.another(b']')? {
            self.lexer.skip()?;
        }
        if index < 0.0 || index > f64::from(u32::MAX) || index.fract() != 0.0 {
            return Err(self
                .lexer
                .refuse(format!("`{index}` is no index of a function")));
        }
        Ok(Some(Arrival {
            t_ms,
            function: index as u32,
        }))
    }

    /// Reads to the end of the file: what follows the events must be whole too.
    fn close(&mut self) -> Result<(), TraceError> {
        self.state = State::Done;
        while self.lexer.another(b'}')? {
            self.lexer.string()?;
            self.lexer.expect(b':')?;
            self.lexer.skip()?;
        }
        match self.lexer.peek()? {
            None => Ok(()),
            Some(_) => Err(self.lexer.refuse("something follows the closing brace")),
        }
    }
}
