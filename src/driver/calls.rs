//! Calls under way: which client waits for which call, and how far each one is.
//!
//! ```text
//!   Arrived --> Looking (is there such a function?) --> Queued --> With(instance) --> gone
//!                  |                                      |            |
//!                  +--- refused --------------------------+          (the client may leave first)
//! ```
//!
//! A call is named by its key as long as the engine may name it; its client may leave, or get the
//! whole answer, before that.

use super::front::Client;
use crate::base::{FunctionName, Slab, Table, Time};
use crate::engine::{self, CallKey, InstanceKey, Start};
use crate::host::death::Cause;
use std::fmt;

/// What a call is called in answers, in logs, and inside the function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallId {
    text: [u8; Self::BYTES],
}

impl CallId {
    /// Hexadecimal digits: 8 for the worker's life, 10 that count.
    pub const BYTES: usize = 18;

    fn new(life: u32, number: u64) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; Self::BYTES];
        let (head, tail) = text.split_at_mut(8);
        let fill = |place: &mut [u8], mut value: u64| {
            for digit in place.iter_mut().rev() {
                *digit = DIGITS[(value & 15) as usize];
                value >>= 4;
            }
        };
        fill(head, u64::from(life));
        fill(tail, number);
        Self { text }
    }

    pub const fn bytes(&self) -> [u8; Self::BYTES] {
        self.text
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).expect("hexadecimal digits are ASCII")
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a call is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The registry is being asked for its function.
    Looking,
    /// The engine knows it.
    Queued,
    With(InstanceKey),
}

/// One call.
#[derive(Debug)]
pub struct Call {
    pub id: CallId,
    /// None once the client has left or has its whole answer.
    pub client: Option<Client>,
    pub function: FunctionName,
    pub stage: Stage,
    pub arrived: Time,
    /// When it was handed to an instance.
    pub given: Time,
    pub start: Start,
    /// The status that went out; 0 until then.
    pub status: u16,
    /// The head of an answer has left: a refusal can only cut it off.
    pub is_answering: bool,
    /// How its instance died, for the refusal.
    pub exit: Option<Cause>,
}

/// Stands for the call of a client in the table beside the clients' own slab.
#[derive(Debug)]
struct Waits(CallKey);

/// Every call, by key and by client.
#[derive(Debug)]
pub struct Calls {
    slab: Slab<Call>,
    by_client: Table<Waits>,
    life: u32,
    number: u64,
}

impl Calls {
    pub fn new(calls_max: usize, clients_max: usize, life: u32) -> Self {
        Self {
            slab: Slab::new(calls_max),
            by_client: Table::new(clients_max),
            life,
            number: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// A name for a call, whether or not it will have a place here.
    pub fn next_id(&mut self) -> CallId {
        self.number += 1;
        CallId::new(self.life, self.number)
    }

    /// A new call; none when there are as many as there may be.
    pub fn insert(
        &mut self,
        id: CallId,
        client: Client,
        function: FunctionName,
        now: Time,
    ) -> Option<CallKey> {
        let call = Call {
            id,
            client: Some(client),
            function,
            stage: Stage::Looking,
            arrived: now,
            given: now,
            start: Start::Warm,
            status: 0,
            is_answering: false,
            exit: None,
        };
        let key: CallKey = self.slab.insert(call).ok()?.alike::<engine::Call>();
        self.by_client
            .insert(client.alike(), Waits(key))
            .expect("there is a place for each client");
        Some(key)
    }

    pub fn get(&self, key: CallKey) -> Option<&Call> {
        self.slab.get(key.alike())
    }

    pub fn get_mut(&mut self, key: CallKey) -> Option<&mut Call> {
        self.slab.get_mut(key.alike())
    }

    /// The call this client waits for.
    pub fn of_client(&self, client: Client) -> Option<CallKey> {
        self.by_client.get(client.alike()).map(|waits| waits.0)
    }

    /// The client has its answer or has left; the call may go on.
    pub fn part(&mut self, key: CallKey) -> Option<Client> {
        let call = self.slab.get_mut(key.alike())?;
        let client = call.client.take()?;
        self.by_client.remove(client.alike());
        Some(client)
    }

    /// The engine will not name it again. The client that still waits is told in what is returned.
    pub fn remove(&mut self, key: CallKey) -> Option<Call> {
        let call = self.slab.remove(key.alike())?;
        if let Some(client) = call.client {
            self.by_client.remove(client.alike());
        }
        Some(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_read_as_hexadecimal() {
        let mut calls = Calls::new(4, 4, 0xdead_beef);
        assert_eq!(calls.next_id().as_str(), "deadbeef0000000001");
        assert_eq!(calls.next_id().as_str(), "deadbeef0000000002");
        assert_eq!(CallId::new(0, 0xab_cdef).as_str(), "000000000000abcdef");
    }

    #[test]
    fn a_client_that_has_its_answer_may_wait_again_while_the_call_goes_on() {
        let mut calls = Calls::new(2, 2, 1);
        let client = Client::new(0, 0);
        let name = FunctionName::new("f").unwrap();
        let call = |calls: &mut Calls| {
            let id = calls.next_id();
            calls.insert(id, client, name, Time::ZERO)
        };
        let first = call(&mut calls).unwrap();
        assert_eq!(calls.of_client(client), Some(first));
        assert_eq!(calls.part(first), Some(client));
        let second = call(&mut calls).unwrap();
        assert_eq!(calls.of_client(client), Some(second));
        calls.part(second);
        assert_eq!(call(&mut calls), None);
        assert!(calls.remove(first).is_some() && calls.remove(first).is_none());
        let third = call(&mut calls).unwrap();
        assert_eq!(calls.remove(third).unwrap().client, Some(client));
        assert_eq!(calls.of_client(client), None);
        assert!(call(&mut calls).is_some());
    }
}
