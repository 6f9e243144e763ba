//! The frameworks people write functions with.
//!
//! They are taken from the directory `OLWORKER_TEST_PACKAGES` names, or installed once by pip into
//! the directory cargo keeps for tests, for /usr/bin/python3. Where neither works they are skipped.

use super::instance::{Heard, Instance, Request, interpreters, skip};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where Flask and FastAPI are, or why they are not.
fn packages() -> Option<&'static str> {
    static FOUND: OnceLock<Result<String, String>> = OnceLock::new();
    match FOUND.get_or_init(find_packages) {
        Ok(directory) => Some(directory),
        Err(why) => {
            skip(why);
            None
        }
    }
}

fn find_packages() -> Result<String, String> {
    let python = interpreters().first().ok_or("no interpreter")?;
    let directory = match std::env::var_os("OLWORKER_TEST_PACKAGES") {
        Some(directory) => PathBuf::from(directory),
        None => install(python)?,
    };
    let import = "import sys; sys.path.insert(0, sys.argv[1]); import flask, fastapi";
    let check = Command::new(python)
        .args(["-I", "-S", "-c", import])
        .arg(&directory)
        .output();
    let check = check.map_err(|error| error.to_string())?;
    let directory = directory
        .into_os_string()
        .into_string()
        .map_err(|_| "not UTF-8")?;
    if check.status.success() {
        return Ok(directory);
    }
    Err(format!(
        "no flask and fastapi for {} in {directory}",
        python.display()
    ))
}

fn install(python: &Path) -> Result<PathBuf, String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-packages");
    if directory.exists() {
        return Ok(directory);
    }
    let partial = directory.with_extension(std::process::id().to_string());
    let install = Command::new(python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--timeout",
            "5",
            "--retries",
            "0",
            "--target",
        ])
        .arg(&partial)
        .args(["flask", "fastapi"])
        .output()
        .map_err(|error| error.to_string())?;
    if !install.status.success() {
        let _ = std::fs::remove_dir_all(&partial);
        let text = String::from_utf8_lossy(&install.stderr).into_owned();
        let why = text
            .lines()
            .find(|line| line.starts_with("ERROR"))
            .unwrap_or("no reason given");
        return Err(format!("pip installs no flask and fastapi: {why}"));
    }
    // Whoever is first; the others have made the same.
    if std::fs::rename(&partial, &directory).is_err() {
        let _ = std::fs::remove_dir_all(&partial);
    }
    Ok(directory)
}

fn start(code: &str, packages: &str) -> Instance {
    let python: &Path = interpreters().first().expect("packages() has found one");
    Instance::start(python, &[("f.py", code)], &[("OL_PACKAGES", packages)])
}

#[test]
fn flask_answers() {
    const CODE: &str = "
from flask import Flask, Response, request, url_for
app = Flask(__name__)
@app.get('/')
def root(): return url_for('item', number=7)
@app.post('/item/<int:number>')
def item(number): return {'number': number, 'got': request.get_json(), 'q': request.args['q']}
@app.get('/stream')
def stream(): return Response((str(n) for n in range(3)), mimetype='text/plain')
@app.get('/raise')
def fail(): raise ValueError('in flask')
";
    let Some(packages) = packages() else {
        return;
    };
    let mut instance = start(CODE, packages);
    assert_eq!(instance.get_to_the_end("").ok(), "/run/test/item/7");
    let answer = instance.call(Request {
        path: "/item/3",
        query: "q=%C3%A9",
        headers: &[
            ("Content-Type", "application/json"),
            ("Content-Length", "5"),
        ],
        body: b"[1,2]",
        ..Request::default()
    });
    let told: serde_json::Value = serde_json::from_str(answer.ok()).unwrap();
    assert_eq!(
        told,
        serde_json::json!({"number": 3, "got": [1, 2], "q": "é"})
    );
    assert!(answer.in_one_frame);
    assert_eq!(instance.hear(), Heard::Idle { tainted: false });
    assert_eq!(instance.get_to_the_end("/stream").ok(), "012");
    assert_eq!(instance.get_to_the_end("/raise").status, 500);
    assert!(instance.log().contains("ValueError: in flask"));
    assert_eq!(instance.get_to_the_end("/none").status, 404);
}

#[test]
fn fastapi_answers() {
    const CODE: &str = "
from contextlib import asynccontextmanager
from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import StreamingResponse
@asynccontextmanager
async def lifespan(app):
    print('startup')
    yield {'made': 'at startup'}
    print('shutdown')
app = FastAPI(lifespan=lifespan)
@app.get('/')
async def root(request: Request): return request.state.made
@app.post('/item/{number}')
async def item(number: int, q: str, got: list[int]): return [number, q, got]
@app.get('/sync')
def sync(): return 'in a thread'
@app.get('/stream')
async def stream():
    async def pieces():
        for n in range(3): yield str(n)
    return StreamingResponse(pieces())
@app.get('/background')
async def background(tasks: BackgroundTasks):
    tasks.add_task(print, 'in the background')
    return 'sent'
";
    let Some(packages) = packages() else {
        return;
    };
    let mut instance = start(CODE, packages);
    assert_eq!(instance.get_to_the_end("").ok(), "\"at startup\"");
    let answer = instance.call(Request {
        path: "/item/3",
        query: "q=%C3%A9",
        headers: &[("Content-Type", "application/json")],
        body: b"[1,2]",
        ..Request::default()
    });
    assert_eq!(answer.ok(), "[3,\"é\",[1,2]]");
    let unprocessable = Request {
        path: "/item/x",
        body: b"[",
        ..Request::default()
    };
    assert_eq!(instance.call(unprocessable).status, 422);
    assert_eq!(instance.get_to_the_end("/sync").ok(), "\"in a thread\"");
    assert_eq!(instance.get_to_the_end("/stream").ok(), "012");
    let answer = instance.get_to_the_end("/background");
    assert_eq!(answer.ok(), "\"sent\"");
    assert_eq!(instance.get_to_the_end("/none").status, 404);
    assert_eq!(instance.hang_up().code(), Some(0));
    let log = instance.log();
    assert!(log.contains("in the background"), "{log}");
    assert!(
        log.starts_with("startup\n") && log.ends_with("shutdown\n"),
        "{log}"
    );
}
