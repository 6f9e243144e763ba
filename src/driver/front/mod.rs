//! The clients: their connections, their requests, and the answers they wait for.
//!
//! `Front` is told what `io` completed, turns bytes into events for the driver's loop, and takes the
//! answers. It reads no clock (`now` is an argument) and knows no function: what a request means is
//! the driver's business.
//!
//! ```text
//!            Received, Ended, Sent, Accepted                Arrived, Body, Writable, HungUp
//!   io ───────────────────────────────────────▶ Front ───────────────────────────────────▶ driver
//!      ◀─────────────────────────────────────── Front ◀───────────────────────────────────
//!            accept, receive, send, close                   answer, refuse, begin/write/end,
//!                                                           discard/spool/stream, take_body
//! ```
//!
//! One turn of the driver's loop:
//!
//! ```text
//!   io.wait(.., &mut completions)
//!   for each completion of Owner::Listener or Owner::Client
//!       front.completed(token, what, &mut io, now)
//!   front.expire(&mut io, now)
//!   while let Some(event) = front.next_event(&mut io, now) { .. answers .. }
//!   front.flush(&mut io, now)             one send for each client with something to say
//!   sleep until front.next_deadline()
//! ```
//!
//! The driver's side, in signatures:
//!
//! ```text
//!   Event::Arrived(Client)   a request with a good head; front.request(client) shows it
//!   Event::Body(Client)      more of its body can be taken, or it has ended
//!   Event::Writable(Client)  room again after write said Room::Full
//!   Event::HungUp(Client)    nobody waits for this answer any more: forget the client. Also when
//!                            the body turned out bad and was refused here
//!
//!   request(client) -> Request { head: &Head, via: Via }     until the answer has ended
//!   body(client) -> Body { bytes: &[u8], ended: bool }       what can be taken now
//!   take_body(client, count)                                 taken: there will be room for more
//!   after Arrived nothing of the body is read on but what came with the head; then one of
//!     stream(client)    read on as bytes are taken (backpressure); sends 100 Continue if asked for
//!     spool(client)     read to the end whether or not anybody takes: memory, then a memfd, within
//!                       the budget of all spools (beyond it: backpressure as in stream)
//!     answering before the end discards the rest
//!
//!   answer(client, status, fields: &[(&str, &str)], body: &[u8], now)
//!   refuse(client, code, &Problem { detail, call_id, .. }, now)
//!     the worker's own answers: they leave once the body has been read to its end, except those the
//!     refusal table lets go early
//!   begin(client, status, fields: impl Iterator<(&[u8], &[u8])>, length: Option<u64>, now)
//!     -> Result<(), BadAnswer>            a function's head, checked; hop-by-hop fields are dropped
//!   write(client, &[u8]) -> Room::{Enough, Full}
//!   end(client, now)                      complete; the next request of the client may follow
//!   abort(client)                         broken off: the client sees that the answer is cut
//! ```
//!
//! A client that is gone, or that an event `HungUp` was made for, may still be named: every method
//! does nothing then.
