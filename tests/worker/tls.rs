//! A registry behind TLS, with certificates of an authority that only its owners know.

use crate::on_both;
use crate::rig::{Worker, worker_in};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

on_both!(
    a_private_authority_is_trusted_where_it_is_named,
    what_cannot_be_trusted_is_refused_with_the_reason,
);

/// The server of one test, and its authority.
struct Server {
    child: Child,
    directory: PathBuf,
    port: u16,
}

impl Server {
    /// None, and why on stderr, where no certificates can be made.
    fn start(test: &str) -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            let _ = writeln!(
                std::io::stderr(),
                "SKIP: no certificates: openssl is not installed (scripts/test does it)"
            );
            return None;
        }
        let name = format!("olworker-tls-{test}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("code")).unwrap();
        fs::write(directory.join("names"), "subjectAltName=DNS:localhost").unwrap();
        let of = |file: &str| directory.join(file);
        fs::write(of("code/x.py"), "def f(event):\n    return 'trusted'\n").unwrap();
        let openssl = |line: &str| {
            let made = Command::new("openssl")
                .args(line.split(' '))
                .current_dir(&directory)
                .output()
                .unwrap();
            assert!(made.status.success(), "{line}: {made:?}");
        };
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for authority in ["ours", "others"] {
            openssl(&format!(
                "req -x509 {new} -keyout {authority}.key -out {authority}.pem \
                 -subj /CN={authority} -days 2 -addext keyUsage=critical,keyCertSign"
            ));
        }
        openssl(&format!(
            "req {new} -keyout server.key -out server.csr -subj /CN=localhost"
        ));
        openssl(
            "x509 -req -in server.csr -CA ours.pem -CAkey ours.key -CAcreateserial -days 2 \
             -extfile names -out server.pem",
        );
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worker/tls_server.py");
        let mut child = Command::new("python3")
            .arg(script)
            .args(["server.pem", "server.key"].map(of))
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap();
        Some(Self {
            child,
            directory,
            port,
        })
    }

    /// A worker that serves from here, as `host`, and trusts what this file of ours holds.
    fn worker(&self, back_end: &str, host: &str, roots: &str) -> Option<Worker> {
        let url = format!("registry.url=https://{host}:{}/code", self.port);
        let roots = self.directory.join(roots).to_str().unwrap().to_owned();
        worker_in(back_end, &[&url], &[("SSL_CERT_FILE", roots)])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn a_private_authority_is_trusted_where_it_is_named(back_end: &str) {
    let Some(server) = Server::start(&format!("good-{back_end}")) else {
        return;
    };
    let Some(worker) = server.worker(back_end, "localhost", "ours.pem") else {
        return;
    };
    let answer = worker.call("x", "");
    assert_eq!(answer.text(), "\"trusted\"", "{}", worker.log());
    assert_eq!(worker.call("nobody", "").code(), "no-such-function");
}

fn what_cannot_be_trusted_is_refused_with_the_reason(back_end: &str) {
    let Some(server) = Server::start(&format!("bad-{back_end}")) else {
        return;
    };
    for (host, roots, why) in [
        (
            "localhost",
            "others.pem",
            "of an authority that is not known here",
        ),
        ("127.0.0.1", "ours.pem", "for another name"),
        (
            "localhost",
            "nothing.pem",
            "SSL_CERT_FILE names cannot be read",
        ),
    ] {
        let Some(worker) = server.worker(back_end, host, roots) else {
            return;
        };
        let answer = worker.call("x", "");
        assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
        assert!(answer.text().contains(why), "{roots}: {}", answer.text());
        assert!(answer.text().contains("SSL_CERT_FILE") == (host == "localhost"));
        // Whom the worker talks to is nobody's business.
        assert!(!answer.text().contains(host), "{}", answer.text());
    }
}
