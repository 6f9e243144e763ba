//! The one table of refusals: what the worker itself may answer instead of doing what was asked.
//!
//! Every error a client can meet is a row here, with its status, whether trying again may help,
//! and how the connection goes on. Rooms name a [`Code`]; nobody else invents a status.

use core::fmt;

/// The code of a refusal: last segment of the problem's `type`, fixed for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Code {
    BadRequest,
    BadEvent,
    Unauthorized,
    NotFound,
    NoSuchFunction,
    MethodNotAllowed,
    TimeoutReadingRequest,
    ReadOnlyRegistry,
    BodyTooLarge,
    UriTooLong,
    BadFunction,
    TooManyCalls,
    HeadTooLarge,
    FunctionError,
    InstallFailed,
    ImportFailed,
    SandboxDied,
    Overloaded,
    Draining,
    CallTimedOut,
}

/// Is it worth sending the same request again?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// The same request will meet the same answer.
    Never,
    /// Perhaps, but nobody knows when; the call may have had effects.
    Perhaps,
    /// Yes: nothing was done. The answer says when, in `Retry-After`.
    After,
}

/// When the answer leaves, and what becomes of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// After the request's body has been read to its end; the connection is kept.
    InTurn,
    /// At once. If the body has not ended by then the connection closes behind the answer.
    Early,
    /// At once, and the connection closes: where the next request would begin is unknown.
    Closing,
}

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    pub code: Code,
    /// As it stands in `type`, in the journal and in counters.
    pub name: &'static str,
    pub status: u16,
    pub title: &'static str,
    pub retry: Retry,
    pub manner: Manner,
    /// The journal's message id, for the catalog.
    pub message_id: u128,
}

/// `[code, name, status, title, retry, manner, message id]`, ordered by status.
macro_rules! table {
    ($([$code:ident, $name:literal, $status:literal, $title:literal, $retry:ident,
        $manner:ident, $id:literal]),* $(,)?) => {
        /// The table, in the order of the codes.
        pub const TABLE: &[Row] = &[$(Row {
            code: Code::$code,
            name: $name,
            status: $status,
            title: $title,
            retry: Retry::$retry,
            manner: Manner::$manner,
            message_id: $id,
        }),*];
    };
}

#[rustfmt::skip]
table! {
    [BadRequest, "bad-request", 400, "The request is malformed or ambiguous", Never, Closing,
        0x1e90_a1a3_b647_5bc7_3035_19df_72e0_0001],
    [BadEvent, "bad-event", 400, "The body of the call is not JSON", Never, InTurn,
        0x1e90_a1a3_b647_5bc7_3035_19df_72e0_0002],
    [Unauthorized, "unauthorized", 401, "This endpoint needs the admin token", Never, Early,
        0x1e90_a1a3_b647_5bc7_3035_19df_72e0_0003],
    [NotFound, "not-found", 404, "There is no such endpoint", Never, InTurn,
        0x1e90_a1a3_b647_5bc7_3035_19df_72e0_0004],
    [NoSuchFunction, "no-such-function", 404, "There is no such function", Never, InTurn,
        0x1e90_a1a3_b647_5bc7_3035_19df_72e0_0005],
    [MethodNotAllowed, "method-not-allowed", 405, "The endpoint does not have this method", Never,
        InTurn, 0x1e90_a1a3_b647_5bc7_3035_19df_72e0_0006],
    [TimeoutReadingRequest, "timeout-reading-request", 408, "The request came too slowly", Perhaps,
        Closing, 0x1e90_a1a3_b647_5bc7_3035_19df_72e0_0007],
    [ReadOnlyRegistry, "read-only-registry", 409, "The registry cannot be written", Never, InTurn,
        0x1e90_a1a3_b647_5bc7_3035_19df_72e0_0008],
    [BodyTooLarge, "body-too-large", 413, "The body is larger than the limit", Never, Closing,
        0x1e90_a1a3_b647_5bc7_3035_19df_72e0_0009],
    [UriTooLong, "uri-too-long", 414, "The request target is longer than the limit", Never, Closing,
        0x1e90_a1a3_b647_5bc7_3035_19df_72e0_000a],
    [BadFunction, "bad-function", 422, "The upload cannot be a function", Never, InTurn,
        0x1e90_a1a3_b647_5bc7_3035_19df_72e0_000b],
    [TooManyCalls, "too-many-calls", 429, "The function has as many calls as it may have", After,
        InTurn, 0x1e90_a1a3_b647_5bc7_3035_19df_72e0_000c],
    [HeadTooLarge, "head-too-large", 431, "The request head is larger than the limit", Never,
        Closing, 0x1e90_a1a3_b647_5bc7_3035_19df_72e0_000d],
    [FunctionError, "function-error", 500, "The function failed", Perhaps, InTurn,
        0x1e90_a1a3_b647_5bc7_3035_19df_72e0_000e],
    [InstallFailed, "install-failed", 500, "The function's packages could not be installed",
        Perhaps, InTurn, 0x1e90_a1a3_b647_5bc7_3035_19df_72e0_000f],
    [ImportFailed, "import-failed", 500, "The function could not be imported", Never, InTurn,
        0x1e90_a1a3_b647_5bc7_3035_19df_72e0_0010],
    [SandboxDied, "sandbox-died", 502, "The sandbox died during the call", Perhaps, InTurn,
        0x1e90_a1a3_b647_5bc7_3035_19df_72e0_0011],
    [Overloaded, "overloaded", 503, "The worker has no room for the call", After, InTurn,
        0x1e90_a1a3_b647_5bc7_3035_19df_72e0_0012],
    [Draining, "draining", 503, "The worker is shutting down", After, InTurn,
        0x1e90_a1a3_b647_5bc7_3035_19df_72e0_0013],
    [CallTimedOut, "call-timed-out", 504, "The call ran longer than the function may", Perhaps,
        InTurn, 0x1e90_a1a3_b647_5bc7_3035_19df_72e0_0014],
}

impl Code {
    /// How many there are: counters are arrays of this length.
    pub const COUNT: usize = TABLE.len();

    pub const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    pub const fn name(self) -> &'static str {
        self.row().name
    }

    pub const fn status(self) -> u16 {
        self.row().status
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A request refused while it was read: the code, and what was wrong with these bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub code: Code,
    /// A sentence without secrets, for the problem's `detail`.
    pub why: &'static str,
}

impl Refusal {
    pub const fn new(code: Code, why: &'static str) -> Self {
        Self { code, why }
    }

    /// Malformed or ambiguous.
    pub const fn bad(why: &'static str) -> Self {
        Self::new(Code::BadRequest, why)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use core::fmt::Write;

    #[test]
    fn every_code_finds_its_own_row() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.code as usize, index);
            assert_eq!(row.code.row(), row);
        }
    }

    #[test]
    fn message_ids_and_names_are_unique() {
        for (index, row) in TABLE.iter().enumerate() {
            for other in &TABLE[..index] {
                assert_ne!(row.name, other.name);
                assert_ne!(row.message_id, other.message_id);
            }
        }
    }

    /// The table as users know it. A change here is a change of what was promised.
    #[test]
    fn the_table_reads() {
        let mut text = String::new();
        for row in TABLE {
            let (retry, manner) = (row.retry, row.manner);
            writeln!(text, "{} {} {retry:?} {manner:?}", row.status, row.name).unwrap();
        }
        let expected = "\
400 bad-request Never Closing
400 bad-event Never InTurn
401 unauthorized Never Early
404 not-found Never InTurn
404 no-such-function Never InTurn
405 method-not-allowed Never InTurn
408 timeout-reading-request Perhaps Closing
409 read-only-registry Never InTurn
413 body-too-large Never Closing
414 uri-too-long Never Closing
422 bad-function Never InTurn
429 too-many-calls After InTurn
431 head-too-large Never Closing
500 function-error Perhaps InTurn
500 install-failed Perhaps InTurn
500 import-failed Never InTurn
502 sandbox-died Perhaps InTurn
503 overloaded After InTurn
503 draining After InTurn
504 call-timed-out Perhaps InTurn
";
        assert_eq!(text, expected);
    }
}
