//! `ol worker status`: ready, or why not.

use super::super::super::client::Request;
use super::super::super::definition::Context;
use super::super::super::failure::{Exit, Failure};
use super::super::super::output::{Done, print, print_json};
use super::super::super::pid_file::Owner;
use super::Place;
use serde_json::{Value, json};

pub fn run(context: &Context, place: &Place) -> Done {
    let directory = place.typed.display();
    let Owner::Lives(running) = place.owner()? else {
        if context.json {
            print_json(&json!({"ready": false, "running": false}))?;
        }
        let start = format!("ol worker up -d -p {directory} starts one");
        let what = "worker status";
        return Err(Failure::new(
            Exit::Unreachable,
            what,
            format!("none runs in {directory}"),
            start,
        ));
    };
    let pid = running.pid;
    let what = format!("worker {pid}");
    let client = place.client();
    let request = Request::new("GET", "/status").header("Accept", "application/json");
    let answer = client
        .send(request)
        .map_err(|error| error.failure(&client.address))?;
    let ready = answer.status == 200;
    let body = client.whole(answer)?;
    let status: Value = serde_json::from_slice(&body).unwrap_or_default();
    if context.json {
        print_json(&json!({"ready": ready, "running": true, "pid": pid, "status": status}))?;
    }
    if ready {
        let text = format!("ready: worker {pid} at {}\n", client.address);
        return if context.json { Ok(()) } else { print(&text) };
    }
    if context.json {
        return Err(Failure::Silent(Exit::Failed));
    }
    let said = ["state", "detail", "title"]
        .iter()
        .find_map(|name| status[*name].as_str());
    let said = said.map_or_else(
        || String::from_utf8_lossy(&body).trim().to_owned(),
        str::to_owned,
    );
    let remedy = format!("{} tells more", place.home.output_file().display());
    Err(Failure::failed(
        what,
        format!("it is not ready: {said}"),
        remedy,
    ))
}
