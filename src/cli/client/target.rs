//! Which worker is meant: what is named, else what is found in the usual places.

use super::super::definition::Context;
use super::super::failure::Failure;
use super::{ADMINISTRATION, Client};
use crate::config::meaning::Home;
use crate::config::{Request, load};
use std::fmt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
}

impl Address {
    /// `http://HOST:PORT`, or the path of a socket.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let refused = |why: &str| {
            let remedy = "give the path of its socket, or http://HOST:PORT";
            Err(Failure::usage(format!("--socket {text}"), why, remedy))
        };
        if let Some(rest) = text.strip_prefix("http://") {
            let authority = rest.strip_suffix('/').unwrap_or(rest);
            let (host, port) = match authority.rsplit_once(':') {
                Some((host, port)) if !authority.ends_with(']') => (host, port.parse().ok()),
                _ => (authority, Some(80)),
            };
            let host = host
                .strip_prefix('[')
                .and_then(|h| h.strip_suffix(']'))
                .unwrap_or(host);
            let plain = !host.is_empty() && !host.contains(['/', '@', '?', '#', ' ']);
            return match port {
                Some(port) if plain => Ok(Self::Tcp {
                    host: host.to_owned(),
                    port,
                }),
                _ => refused("is no address"),
            };
        }
        match text.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(PathBuf::from(path))),
            Some(("https", _)) => refused("TLS is not spoken here"),
            Some(_) => refused("is no address"),
            None if text.is_empty() => refused("is empty"),
            None => Ok(Self::Unix(PathBuf::from(text))),
        }
    }

    /// For the Host field.
    pub fn host(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp { .. } => write!(f, "http://{}", self.host()),
        }
    }
}

/// The client for the worker that is meant.
pub fn find(context: &Context) -> Result<Client, Failure> {
    let address = match (&context.socket, &context.directory) {
        (Some(socket), _) => Address::parse(socket)?,
        (None, Some(directory)) => of_directory(&context.working_directory.join(directory)),
        (None, None) => usual(&context.working_directory),
    };
    Ok(Client {
        address,
        token: token(context)?,
        silence: Some(ADMINISTRATION),
    })
}

/// The worker in this directory, else that of the machine. A socket nobody listens on any more is
/// passed over.
fn usual(working_directory: &Path) -> Address {
    let own = working_directory.join("default-ol/worker/ol.sock");
    let installed = Home::installed().socket;
    let answers = |path: &Path| UnixStream::connect(path).is_ok();
    // What is asked last is what the failure names.
    if answers(&own) || (own.exists() && !installed.exists()) {
        Address::Unix(own)
    } else {
        Address::Unix(installed)
    }
}

/// The socket of a directory worker: where its running configuration says, else the usual one.
pub fn of_directory(directory: &Path) -> Address {
    let home = Home::directory(directory);
    if home.socket.exists() {
        return Address::Unix(home.socket);
    }
    let request = Request {
        directory: Some(directory.to_path_buf()),
        file: Some(home.effective_file()),
        ..Request::default()
    };
    match load(&request, crate::config::Machine::UNKNOWN) {
        Ok(loaded) => Address::Unix(loaded.config.http.unix),
        Err(_) => Address::Unix(home.socket),
    }
}

fn token(context: &Context) -> Result<Option<String>, Failure> {
    let Some(file) = &context.token_file else {
        return Ok(None);
    };
    let path = context.working_directory.join(file);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::of_path(
            &path,
            &error,
            "name a file that holds the administrator's token",
        )
    })?;
    let token = text.trim();
    if token.is_empty() || token.contains(|c: char| c.is_control() || !c.is_ascii()) {
        let remedy = "write the token into it, in one line of ASCII";
        return Err(Failure::failed(
            path.display().to_string(),
            "holds no token",
            remedy,
        ));
    }
    Ok(Some(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let of = |text: &str| Address::parse(text).ok().map(|address| address.to_string());
        assert_eq!(of("/run/x.sock").as_deref(), Some("/run/x.sock"));
        assert_eq!(of("unix:///run/x.sock").as_deref(), Some("/run/x.sock"));
        assert_eq!(
            of("http://127.0.0.1:5000/").as_deref(),
            Some("http://127.0.0.1:5000")
        );
        assert_eq!(
            of("http://[::1]:5000").as_deref(),
            Some("http://[::1]:5000")
        );
        assert_eq!(of("http://worker").as_deref(), Some("http://worker:80"));
        for bad in [
            "",
            "https://x:1",
            "http://",
            "http://a:b",
            "http://a:1/path",
            "ftp://x",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
