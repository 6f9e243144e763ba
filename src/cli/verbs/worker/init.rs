//! `ol worker init`: the files of a worker. Nothing that is there is ever changed.

use super::super::super::definition::{Context, many};
use super::super::super::failure::Failure;
use super::super::super::machine;
use super::super::super::output::{Done, print_json};
use super::{Place, base, step};
use crate::config::meaning::{Base, Config};
use crate::config::read::{Sources, read};
use crate::config::{Request, load, render};
use clap::ArgMatches;
use serde_json::json;
use std::fs;
use std::io;
use std::path::Path;

/// The tree that is shipped: popular packages, those that need others below them.
const TREE: &str = include_str!("../../../../etc/olworker/tree.json");

pub fn run(matches: &ArgMatches, context: &Context, place: &Place) -> Done {
    let image = matches.get_one::<String>("image").map(String::as_str);
    let made = make(image, &many(matches, "override"), context, place)?;
    if context.json {
        let directory = place.directory().display().to_string();
        return print_json(&json!({"directory": directory, "made": made}));
    }
    let directory = place.typed.display();
    if made.is_empty() {
        return step(
            context,
            &format!("{directory}: everything is there already"),
        );
    }
    step(context, &format!("{directory}: made {}", made.join(", ")))?;
    step(
        context,
        &format!("edit {directory}/config.toml, then: ol worker up -d -p {directory}"),
    )
}

/// Makes what is missing, and answers what that was.
pub fn make(
    image: Option<&str>,
    overrides: &[String],
    context: &Context,
    place: &Place,
) -> Result<Vec<&'static str>, Failure> {
    let mut made = Vec::new();
    let failed = |error: io::Error| {
        Failure::of_path(
            place.directory(),
            &error,
            "choose a directory that can be written to",
        )
    };
    for (name, path) in [
        ("registry/", &place.home.functions),
        ("packages/", &place.home.packages()),
        ("worker/", &place.home.run),
    ] {
        if !path.is_dir() {
            fs::create_dir_all(path).map_err(failed)?;
            made.push(name);
        }
    }
    let base = match image {
        Some(image) => Some(base::prepare(image, &context.working_directory, place)?),
        None => None,
    };
    let file = place.config_file();
    if file.exists() {
        agrees(&file, base.as_ref(), overrides, place)?;
    } else {
        let config = config(overrides, base, context, place)?;
        let text = render::toml(
            &config,
            "The configuration of this worker: every key and its value. `olworker check --config` \
             tells what is wrong with it; man olworker.toml says more.",
        );
        create(&file, &text).map_err(failed)?;
        made.push("config.toml");
    }
    let tree = place.directory().join("tree.json");
    if !tree.exists() {
        create(&tree, TREE).map_err(failed)?;
        made.push("tree.json");
    }
    Ok(made)
}

/// All of it or nothing: half a configuration would be taken for one.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// The defaults for this directory and machine, overridden.
fn config(
    overrides: &[String],
    base: Option<Base>,
    context: &Context,
    place: &Place,
) -> Result<Config, Failure> {
    let sources = Sources {
        files: Vec::new(),
        overrides: overrides.to_vec(),
        working_directory: context.working_directory.clone(),
    };
    let loaded = read(&sources, place.home.clone(), machine::this());
    let mut config = loaded.map_err(Failure::Configuration)?.config;
    if let Some(base) = base {
        config.sandbox.base = base;
    }
    Ok(config)
}

/// What was asked for must be what is there: the file is its owner's.
pub fn agrees(file: &Path, base: Option<&Base>, overrides: &[String], place: &Place) -> Done {
    let refused = |why: String| {
        let remedy = "edit the file, or choose another directory with -p";
        Err(Failure::failed(file.display().to_string(), why, remedy))
    };
    if !overrides.is_empty() {
        return refused("it is there already, and -o would change it".to_owned());
    }
    let Some(base) = base else { return Ok(()) };
    let request = Request {
        directory: Some(place.directory().clone()),
        ..Request::default()
    };
    let loaded = load(&request, machine::this()).map_err(Failure::Configuration)?;
    if loaded.config.sandbox.base == *base {
        return Ok(());
    }
    refused("it is there already, with another sandbox.base".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::Tree;

    #[test]
    fn the_shipped_tree_is_one() {
        let tree = Tree::from_json(TREE).expect("a tree");
        assert!(!tree.is_bare());
        let packages: Vec<_> = tree
            .shape()
            .iter()
            .flat_map(|(_, n)| n.packages.clone())
            .collect();
        for name in ["numpy", "pandas", "flask", "requests"] {
            assert!(
                packages.iter().any(|package| package.name() == name),
                "{name}"
            );
        }
    }
}
