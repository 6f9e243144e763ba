//! A package index of this test's own: it serves a directory of packages and knows what was asked.

use super::wheels::sha256;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use zip::ZipArchive;

/// Serves `/simple/NAME/` with the hashes and the metadata (PEP 658) of what lies in a directory.
#[derive(Clone)]
pub struct Index {
    directory: PathBuf,
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    asked: BTreeMap<String, usize>,
    /// Files whose second half is kept back, and who waits for it.
    cut: Vec<String>,
    held: Vec<TcpStream>,
    is_gone: bool,
}

impl Index {
    pub fn start(directory: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let index = Self {
            directory: directory.to_path_buf(),
            port: listener.local_addr().unwrap().port(),
            state: Arc::default(),
        };
        let shared = index.clone();
        let serve = move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                let one = move || shared.serve(&stream);
                std::thread::Builder::new().spawn(one).unwrap();
            }
        };
        std::thread::Builder::new().spawn(serve).unwrap();
        index
    }

    /// The setting that has a worker ask here.
    pub fn setting(&self) -> String {
        format!("packages.index_url={}", self.url())
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/simple", self.port)
    }

    /// How often each file that ends so was asked for.
    pub fn asked(&self, ending: &str) -> BTreeMap<String, usize> {
        let state = self.state.lock().unwrap();
        let asked = state
            .asked
            .iter()
            .filter(|(path, _)| path.ends_with(ending));
        asked.map(|(path, count)| (path.clone(), *count)).collect()
    }

    /// Has nobody get the second half of a file.
    pub fn cut(&self, file: &str) {
        self.state.lock().unwrap().cut.push(file.to_owned());
    }

    /// Whole files again.
    pub fn mend(&self) {
        let mut state = self.state.lock().unwrap();
        state.cut.clear();
        state.held.clear();
    }

    /// Nobody is answered from now on.
    pub fn go_away(&self) {
        self.state.lock().unwrap().is_gone = true;
    }

    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut first = String::new();
            if reader.read_line(&mut first).unwrap_or(0) == 0 {
                return;
            }
            let mut line = String::new();
            while line.trim_end() != "" || line.is_empty() {
                line.clear();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
            }
            let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
            let is_head = first.starts_with("HEAD ");
            if !self.answer(&path, is_head, stream) {
                return;
            }
        }
    }

    /// False: the connection is over.
    fn answer(&self, path: &str, is_head: bool, mut stream: &TcpStream) -> bool {
        let name = path.rsplit('/').next().unwrap_or("").to_owned();
        let is_cut = {
            let mut state = self.state.lock().unwrap();
            if state.is_gone {
                return false;
            }
            if !is_head && !name.is_empty() {
                *state.asked.entry(name.clone()).or_default() += 1;
            }
            state.cut.contains(&name)
        };
        let body = match path.strip_prefix("/simple/") {
            Some(project) => self.page(project.trim_end_matches('/')),
            None => self.file(&name),
        };
        let status = if body.is_some() {
            "200 OK"
        } else {
            "404 Not Found"
        };
        let kind = if name.is_empty() {
            "text/html"
        } else {
            "application/octet-stream"
        };
        let body = body.unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let sent = if is_head {
            0
        } else {
            body.len() / (1 + usize::from(is_cut))
        };
        let told = stream.write_all(head.as_bytes());
        let told = told.and_then(|()| stream.write_all(&body[..sent]));
        if is_cut {
            // Open, so that whoever asked waits.
            let held = stream.try_clone().unwrap();
            self.state.lock().unwrap().held.push(held);
        }
        told.is_ok()
    }

    fn file(&self, name: &str) -> Option<Vec<u8>> {
        match name.strip_suffix(".metadata") {
            Some(wheel) => metadata(&self.directory.join(wheel)),
            None => fs::read(self.directory.join(name)).ok(),
        }
    }

    fn page(&self, project: &str) -> Option<Vec<u8>> {
        let mut page = "<!DOCTYPE html><html><body>\n".to_owned();
        let begin = page.len();
        let mut names: Vec<String> = fs::read_dir(&self.directory)
            .unwrap()
            .filter_map(|found| found.unwrap().file_name().into_string().ok())
            .collect();
        names.sort();
        for name in names {
            if name.split('-').next() != Some(project) {
                continue;
            }
            let path = self.directory.join(&name);
            let hash = sha256(&fs::read(&path).unwrap());
            let told = metadata(&path).map_or_else(String::new, |text| {
                format!(" data-core-metadata=\"sha256={}\"", sha256(&text))
            });
            let href = format!("/files/{name}#sha256={hash}");
            writeln!(page, "<a href=\"{href}\"{told}>{name}</a><br>").unwrap();
        }
        (page.len() > begin).then(|| page.into_bytes())
    }
}

/// What a wheel says of itself; none of what is no wheel.
fn metadata(wheel: &Path) -> Option<Vec<u8>> {
    let mut archive = ZipArchive::new(File::open(wheel).ok()?).ok()?;
    let count = archive.len();
    let is_it = |place: &usize| {
        let file = archive.by_index(*place);
        file.is_ok_and(|file| {
            file.name()
                .is_ok_and(|name| name.ends_with(".dist-info/METADATA"))
        })
    };
    let place = (0..count).find(is_it)?;
    let mut text = Vec::new();
    archive.by_index(place).ok()?.read_to_end(&mut text).ok()?;
    Some(text)
}
