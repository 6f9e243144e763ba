//! The registry's endpoints: uploads, listings, rollbacks, removals.
//!
//! ```text
//!   PUT: body --> memory file --> helper: unpack, check, keep, publish --> engine --> answer
//!   all others:                          helper: look or change              --> engine --> answer
//! ```
//!
//! The engine hears of a change before the client does: whoever has read the answer of an upload
//! will never get an answer of the old code.

use super::front::Client;
use super::functions::{self, Code as NewCode, Deployed, Put};
use super::listing::{self, Lister};
use super::outputs;
use super::streams::Source;
use super::worker::{self, Worker};
use crate::base::FunctionName;
use crate::config::words::OnHangup;
use crate::engine::Event;
use crate::host::code::{Bad, Entry, Files, Listing, Loaded, Registry, Trouble, Version};
use crate::http::{Code, Problem};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

/// Uploads whose bodies are on their way at once: each may hold `[http] max_body_mb` of memory.
const UPLOADS_MAX: usize = 8;
/// The longest body of a rollback.
const ROLLBACK_BYTES_MAX: u64 = 4096;

/// A body that is collected.
#[derive(Debug)]
struct Upload {
    client: Client,
    name: FunctionName,
    purpose: Purpose,
    body: File,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    Code,
    Rollback,
}

/// Bodies that are collected, each for one client.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    list: Vec<Upload>,
    number: u64,
}

impl Uploads {
    pub(super) fn forget(&mut self, client: Client) {
        self.list.retain(|upload| upload.client != client);
    }
}

/// What a helper did for a client.
#[derive(Debug)]
pub(super) struct Done {
    client: Client,
    change: Change,
    answer: Result<Answer, (Code, String)>,
}

#[derive(Debug)]
enum Answer {
    Json(Value),
    Streamed(Listing),
}

#[derive(Debug)]
enum Change {
    Nothing,
    /// Other code; the last is which change of the registry that was.
    Code(FunctionName, Box<NewCode>, Version, u64),
    Removed(FunctionName),
}

type Outcome = (Change, Result<Answer, (Code, String)>);

fn refused(bad: Bad) -> (Code, String) {
    match bad {
        Bad::Archive(why) => (Code::BadFunction, why),
        Bad::Host(error) => failed(&error),
    }
}

fn troubled(trouble: Trouble) -> (Code, String) {
    match trouble {
        Trouble::Bad(bad) => refused(bad),
        Trouble::Registry(error) => failed(&error),
    }
}

/// The disk is at fault, or a server. What is told names no path and no host.
fn failed(error: &io::Error) -> (Code, String) {
    log::error!(event = "registry-failed"; "the registry: {error}");
    // What a system call says comes with a path now and then; words of our own do not.
    let why = match error.get_ref() {
        Some(own) => own.to_string(),
        None => error.kind().to_string(),
    };
    (
        Code::Overloaded,
        format!("the registry cannot be used: {why}"),
    )
}

fn missing() -> (Code, String) {
    (
        Code::NoSuchFunction,
        "the registry has none of this name".to_owned(),
    )
}

impl Worker {
    fn read_only(&mut self, client: Client) {
        let detail = "functions come from [registry] url, which is not a directory: put them there";
        self.refuse(client, &Problem::new(Code::ReadOnlyRegistry, detail));
    }

    /// Has a helper do something for a client.
    fn ask_registry(
        &mut self,
        client: Client,
        job: impl FnOnce(&Registry) -> Outcome + Send + 'static,
    ) {
        let registry = self.registry.clone();
        let job = move || {
            let (change, answer) = job(&registry);
            worker::Done::Registry(Done {
                client,
                change,
                answer,
            })
        };
        if self.registry_helpers().submit(job).is_err() {
            let detail = "as many registry operations as there may be are under way";
            self.refuse(client, &Problem::new(Code::Overloaded, detail));
        }
    }

    /// The same for what takes a directory.
    fn change_registry(
        &mut self,
        client: Client,
        job: impl FnOnce(&Registry, &Files) -> Outcome + Send + 'static,
    ) {
        if self.registry.files().is_none() {
            return self.read_only(client);
        }
        self.ask_registry(client, |registry| {
            let files = registry.files().expect("looked before the job was made");
            job(registry, files)
        });
    }

    pub(super) fn list_functions(&mut self, client: Client) {
        self.ask_registry(client, |registry| {
            let listing = registry.list().map_err(|error| failed(&error));
            (Change::Nothing, listing.map(Answer::Streamed))
        });
    }

    pub(super) fn show_function(&mut self, client: Client, name: FunctionName) {
        self.ask_registry(client, move |registry| {
            let answer = registry
                .get(&name)
                .map_err(|error| failed(&error))
                .and_then(|row| {
                    row.map(|row| Answer::Json(listing::row_json(&row)))
                        .ok_or_else(missing)
                });
            (Change::Nothing, answer)
        });
    }

    pub(super) fn list_versions(&mut self, client: Client, name: FunctionName) {
        self.ask_registry(client, move |registry| {
            let answer = registry
                .get(&name)
                .map_err(|error| failed(&error))
                .and_then(|found| {
                    found.ok_or_else(missing)?;
                    let versions = registry.versions(&name).map_err(|error| failed(&error))?;
                    let rows: Vec<Value> = versions.iter().map(version_json).collect();
                    Ok(Answer::Json(json!({ "versions": rows })))
                });
            (Change::Nothing, answer)
        });
    }

    pub(super) fn show_settings(&mut self, client: Client, name: FunctionName) {
        let limits = self.config.limits.clone();
        let network = self.config.sandbox.network;
        self.ask_registry(client, move |registry| {
            let answer = registry
                .load(&name, None, &functions::settings)
                .map_err(troubled)
                .and_then(|entry| {
                    let Entry::Code(Loaded { checked: asked, .. }) = entry else {
                        return Err(missing());
                    };
                    let on_hangup = asked.on_hangup.unwrap_or(limits.on_hangup);
                    let methods = if asked.methods.is_empty() {
                        vec!["*".to_owned()]
                    } else {
                        asked.methods
                    };
                    let max_instances = asked.max_instances.or(limits.max_instances);
                    Ok(Answer::Json(json!({
                            "limits": {
                                "mem_mb": asked.mem_bytes.unwrap_or(limits.mem_bytes) >> 20,
                                "procs": asked.procs.unwrap_or(limits.procs),
                                "cpu_percent": asked.cpu_percent.unwrap_or(limits.cpu_percent),
                                "runtime_sec": asked.runtime.unwrap_or(limits.runtime).as_secs(),
                                "max_instances": max_instances.unwrap_or(0),
                                "queue": asked.queue.unwrap_or(limits.queue),
                            },
                            "on_hangup": OnHangup::word(on_hangup),
                            "environment": asked.environment,
                            "triggers": { "http": methods },
                            "reuse_sandbox": asked.reuse_sandbox.unwrap_or(true),
                            "zygote": asked.zygote.unwrap_or(true),
                            "network": asked.network.unwrap_or(network).word(),
                    })))
                });
            (Change::Nothing, answer)
        });
    }

    pub(super) fn remove_function(&mut self, client: Client, name: FunctionName) {
        let logs = Arc::clone(self.outputs.logs());
        self.change_registry(client, move |_, files| match files.delete(&name) {
            Ok(true) => {
                outputs::lock(&logs).remove(&name);
                let answer = json!({ "removed": name.as_str() });
                (Change::Removed(name), Ok(Answer::Json(answer)))
            }
            Ok(false) => (Change::Nothing, Err(missing())),
            Err(error) => (Change::Nothing, Err(failed(&error))),
        });
    }

    pub(super) fn upload_begins(&mut self, client: Client, name: FunctionName) {
        self.collect(client, name, Purpose::Code);
    }

    pub(super) fn roll_back(&mut self, client: Client, name: FunctionName) {
        self.collect(client, name, Purpose::Rollback);
    }

    fn collect(&mut self, client: Client, name: FunctionName, purpose: Purpose) {
        if self.registry.files().is_none() {
            return self.read_only(client);
        }
        if self.uploads.list.len() == UPLOADS_MAX {
            let detail = "as many uploads as there may be are under way";
            return self.refuse(client, &Problem::new(Code::Overloaded, detail));
        }
        let memory = memfd::MemfdOptions::default().create("upload");
        let Ok(memory) = memory else {
            let detail = "there is no memory for one more upload";
            return self.refuse(client, &Problem::new(Code::Overloaded, detail));
        };
        self.uploads.list.push(Upload {
            client,
            name,
            purpose,
            body: memory.into_file(),
        });
        self.front.stream_body(client);
        self.collect_more(client);
    }

    /// More of a collected body can be taken.
    pub(super) fn collect_more(&mut self, client: Client) {
        let uploads = &mut self.uploads;
        let Some(index) = uploads
            .list
            .iter()
            .position(|upload| upload.client == client)
        else {
            return;
        };
        loop {
            let body = self.front.body(client);
            let (count, is_last) = (body.bytes.len(), body.is_last);
            let written = uploads.list[index].body.write_all(body.bytes);
            if count > 0 {
                self.front.take_body(client, count);
            }
            if written.is_err() {
                uploads.list.swap_remove(index);
                let detail = "there is no memory for the rest of the upload";
                return self.refuse(client, &Problem::new(Code::Overloaded, detail));
            }
            if is_last {
                break;
            }
            if count == 0 {
                return;
            }
        }
        uploads.number += 1;
        let number = uploads.number;
        let upload = uploads.list.swap_remove(index);
        match upload.purpose {
            Purpose::Code => {
                self.change_registry(client, move |_, files| put(files, upload, number));
            }
            Purpose::Rollback => self.change_registry(client, move |registry, files| {
                again(registry, files, upload)
            }),
        }
    }

    /// A helper is done with a client's wish.
    pub(super) fn registry_done(&mut self, done: Done) {
        match done.change {
            Change::Nothing => {}
            Change::Removed(name) => {
                if let Some(function) = self.functions.removed(&name) {
                    self.tell(Event::FunctionRemoved { function });
                }
            }
            Change::Code(name, code, version, change) => {
                self.settle_version(version);
                self.code_changed(name, *code, change);
            }
        }
        match done.answer {
            Ok(Answer::Json(value)) => self.answer_json(done.client, 200, &value),
            Ok(Answer::Streamed(rows)) => {
                self.begin_stream(done.client, Source::List(Lister::new(rows)));
            }
            Err((code, detail)) => self.refuse(done.client, &Problem::new(code, &detail)),
        }
    }
}

impl Worker {
    /// Has the kept copy of an upload brought to the disk, when somebody has time.
    fn settle_version(&mut self, version: Version) {
        let job = move || {
            if let Err(error) = version.settle() {
                log::warn!("version {} may not be kept: {error}", version.number);
            }
        };
        // Left to the kernel, then, which does it within half a minute.
        let _ = self.idlers.submit(job);
    }

    /// An upload or a rollback has given a name other code. One that nobody has called costs no
    /// memory: its first call finds it in the registry.
    fn code_changed(&mut self, name: FunctionName, code: NewCode, change: u64) {
        if self.functions.named(&name).is_none() && code.requirements.is_empty() {
            return;
        }
        match self.functions.deployed(&name, code, change, self.now) {
            Deployed::Newest(function) => {
                self.deployed(function);
                self.prefetch(function);
            }
            Deployed::Outdone => {}
            Deployed::Full => {
                log::warn!("{name} was deployed, but there is no place for it in memory");
            }
        }
    }
}

/// Makes a collected body the function's code.
fn put(registry: &Files, mut upload: Upload, number: u64) -> Outcome {
    let name = upload.name;
    let deployed = copy_in(registry, &mut upload.body, number)
        .map_err(Bad::Host)
        .and_then(|upload| Put { name, upload }.run(registry));
    match deployed {
        Ok((version, code, change)) => {
            let mut answer = version_json(&version);
            answer["name"] = json!(name.as_str());
            (
                Change::Code(name, Box::new(code), version, change),
                Ok(Answer::Json(answer)),
            )
        }
        Err(bad) => (Change::Nothing, Err(refused(bad))),
    }
}

fn copy_in(
    registry: &Files,
    body: &mut File,
    number: u64,
) -> io::Result<crate::host::code::Upload> {
    body.seek(SeekFrom::Start(0))?;
    let mut upload = registry.incoming(number)?;
    io::copy(body, &mut upload.file)?;
    Ok(upload)
}

/// Lets an earlier version serve again: the one the body names, else the one before.
fn again(registry: &Registry, files: &Files, mut upload: Upload) -> Outcome {
    let name = upload.name;
    let number = match wanted_version(&mut upload.body) {
        Ok(number) => number,
        Err(why) => return (Change::Nothing, Err((Code::BadFunction, why))),
    };
    let outcome = files
        .rollback(&name, number)
        .map_err(refused)
        .and_then(|version| {
            let (version, change) = version.ok_or_else(|| {
                let why = "no such version is kept (GET /registry/NAME/versions lists them)";
                (Code::NoSuchFunction, why.to_owned())
            })?;
            let code = functions::load(registry, &name).map_err(troubled)?;
            let code = code.ok_or_else(missing)?;
            let mut answer = version_json(&version);
            answer["name"] = json!(name.as_str());
            Ok((code, version, change, answer))
        });
    match outcome {
        Ok((code, version, change, answer)) => (
            Change::Code(name, Box::new(code), version, change),
            Ok(Answer::Json(answer)),
        ),
        Err(problem) => (Change::Nothing, Err(problem)),
    }
}

fn wanted_version(body: &mut File) -> Result<Option<u64>, String> {
    let mut text = String::new();
    let read = body
        .seek(SeekFrom::Start(0))
        .and_then(|_| body.take(ROLLBACK_BYTES_MAX).read_to_string(&mut text));
    if read.is_err() {
        return Err("the body is no text".to_owned());
    }
    if text.trim().is_empty() {
        return Ok(None);
    }
    let value: Value = serde_json::from_str(&text)
        .map_err(|_| "the body is no JSON (send {\"version\": N}, or nothing)".to_owned())?;
    match &value["version"] {
        Value::Null => Ok(None),
        Value::Number(number) if number.is_u64() => Ok(number.as_u64()),
        Value::String(text) if text.parse::<u64>().is_ok() => Ok(text.parse().ok()),
        other => Err(format!("{other} is no version (versions are numbers)")),
    }
}

fn version_json(version: &Version) -> Value {
    json!({
        "version": version.number,
        "digest": version.digest,
        "bytes": version.bytes,
        "uploaded": listing::moment(version.uploaded_secs),
    })
}
