//! What a service manager passes, taken by a process that was really started so: the test starts
//! itself again, with a socket and a file in the places where they are passed.

use olworker::sys::listen::{Family, Passed, passed};
use std::io::{Read, Seek};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

const PYTHON: &str = "/usr/bin/python3";
const STARTED_SO: &str = "OLWORKER_TEST_STARTED_WITH_SOCKETS";

/// Sockets are passed as 3, 4, ... and to one process only, named by its pid.
const MANAGER: &str = r#"
import fcntl, os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
state = os.memfd_create("state")
os.write(state, b"kept")
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (listener.fileno(), state)]
for place, fd in enumerate(high, 3):
    os.dup2(fd, place)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="web:state")
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn what_is_passed_is_taken_once() {
    if std::env::var_os(STARTED_SO).is_some() {
        return take();
    }
    if !std::path::Path::new(PYTHON).exists() {
        return skip("no /usr/bin/python3 to pass sockets with");
    }
    let output = Command::new(PYTHON)
        .args(["-c", MANAGER])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "what_is_passed_is_taken_once"])
        .env(STARTED_SO, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

fn take() {
    let mut all = passed().unwrap().into_iter();
    let (Some(first), Some(second), None) = (all.next(), all.next(), all.next()) else {
        panic!("two were passed")
    };
    let Passed::Listener {
        name,
        family: Family::Tcp,
        descriptor,
    } = first
    else {
        panic!("{first:?}")
    };
    assert_eq!(name, "web");
    let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let listener = TcpListener::from(descriptor);
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());

    let Passed::Stored { name, descriptor } = second else {
        panic!("{second:?}")
    };
    assert_eq!(name, "state");
    let (mut file, mut kept) = (std::fs::File::from(descriptor), String::new());
    file.rewind().unwrap();
    file.read_to_string(&mut kept).unwrap();
    assert_eq!(kept, "kept");

    assert!(passed().unwrap().is_empty());
}

#[expect(clippy::print_stderr, reason = "a test that cannot run says why")]
fn skip(why: &str) {
    eprintln!("SKIP: {why}");
}
