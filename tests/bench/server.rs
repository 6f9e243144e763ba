//! A server that answers as a test tells it to, a thread for each connection.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a call is answered with.
pub enum Reply {
    Bytes(String),
    After(Duration, String),
    /// And no more on this connection.
    Close(String),
}

type Decide = dyn Fn(u32, &str) -> Reply + Send + Sync;

struct Shared {
    decide: Box<Decide>,
    count: AtomicU32,
    asked: Mutex<Vec<(u32, String)>>,
    streams: Mutex<Vec<UnixStream>>,
    is_over: AtomicBool,
}

pub struct Server {
    pub path: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `decide` is told which call of all this is, and its request.
    pub fn new(decide: impl Fn(u32, &str) -> Reply + Send + Sync + 'static) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("olworker-bench-{}-{next}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket of its own");
        let shared = Arc::new(Shared {
            decide: Box::new(decide),
            count: AtomicU32::new(0),
            asked: Mutex::default(),
            streams: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().spawn(move || accept(&listener, &own));
        Self {
            path,
            shared,
            thread: Some(thread.expect("a thread")),
        }
    }

    /// Connection and request of each call, in order.
    pub fn asked(&self) -> Vec<(u32, String)> {
        self.shared.asked.lock().expect("nobody panicked").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
        for stream in self.shared.streams.lock().expect("nobody panicked").iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.thread
            .take()
            .expect("it ends once")
            .join()
            .expect("it did not panic");
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    for connection in 0.. {
        let Ok((stream, _)) = listener.accept() else {
            break;
        };
        if shared.is_over.load(Ordering::Relaxed) {
            break;
        }
        let copy = stream.try_clone().expect("a descriptor");
        shared.streams.lock().expect("nobody panicked").push(copy);
        let shared = Arc::clone(shared);
        let thread = std::thread::Builder::new()
            .spawn(move || serve(connection, stream, &shared))
            .expect("a thread");
        threads.push(thread);
    }
    for thread in threads {
        thread.join().expect("it did not panic");
    }
}

fn serve(connection: u32, mut stream: UnixStream, shared: &Shared) {
    let mut bytes = [0; 4096];
    loop {
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n{}") {
            match stream.read(&mut bytes) {
                Ok(count) if count > 0 => {
                    request.push_str(std::str::from_utf8(&bytes[..count]).expect("ASCII"));
                }
                _ => return,
            }
        }
        let number = shared.count.fetch_add(1, Ordering::Relaxed);
        let reply = (shared.decide)(number, &request);
        shared
            .asked
            .lock()
            .expect("nobody panicked")
            .push((connection, request));
        let (text, closes) = match reply {
            Reply::Bytes(text) => (text, false),
            Reply::Close(text) => (text, true),
            Reply::After(time, text) => {
                let time = time.try_into().expect("a short one");
                rustix::event::poll(&mut [], Some(&time)).expect("it only waits");
                (text, false)
            }
        };
        if stream.write_all(text.as_bytes()).is_err() || closes {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}
