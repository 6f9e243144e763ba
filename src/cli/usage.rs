//! What was typed wrong, in one line like every other failure.
//!
//! clap knows much about an error; its own rendering is a paragraph. Here its kind and context
//! become `ol: verb: why (what to do)`.

use super::failure::Failure;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// `words`: the command line behind the program's name, to tell which verb it was about.
pub fn explain(program: &str, error: &Error, words: &[String], verbs: &[String]) -> Failure {
    let verb = words.iter().find(|word| verbs.contains(*word));
    let what = verb.map_or("command line", String::as_str);
    let help = match verb {
        Some(verb) => format!("{program} {verb} --help"),
        None => format!("{program} --help"),
    };
    let why = why(error);
    let remedy = match suggestion(error) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("{help} tells what there is"),
    };
    Failure::usage(what, why, remedy)
}

fn why(error: &Error) -> String {
    let invalid = text(error, ContextKind::InvalidArg);
    let value = text(error, ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::UnknownArgument => format!("it has no {}", invalid.unwrap_or_default()),
        ErrorKind::InvalidSubcommand => {
            let verb = text(error, ContextKind::InvalidSubcommand).unwrap_or_default();
            format!("there is no {verb}")
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "a verb is missing".to_owned()
        }
        ErrorKind::MissingRequiredArgument => {
            format!("{} is missing", invalid.unwrap_or_default())
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if value.as_deref() == Some("") => {
            format!("{} wants a value", invalid.unwrap_or_default())
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let reason = std::error::Error::source(error).map(ToString::to_string);
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            let (value, invalid) = (value.unwrap_or_default(), invalid.unwrap_or_default());
            format!("{value:?} is nothing for {invalid}{reason}")
        }
        ErrorKind::ArgumentConflict => {
            let other = text(error, ContextKind::PriorArg).unwrap_or_default();
            let invalid = invalid.unwrap_or_default();
            if other.is_empty() || other == invalid {
                format!("{invalid} is given twice")
            } else {
                format!("{invalid} excludes {other}")
            }
        }
        ErrorKind::TooManyValues => {
            format!("{:?} is one value too many", value.unwrap_or_default())
        }
        ErrorKind::InvalidUtf8 => "it holds something that is no UTF-8 text".to_owned(),
        _ => first_line(error),
    }
}

/// clap's own words, where there are no better ones.
fn first_line(error: &Error) -> String {
    let rendered = error.render().to_string();
    let line = rendered.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// What was probably meant.
fn suggestion(error: &Error) -> Option<String> {
    [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ]
    .into_iter()
    .find_map(|kind| text(error, kind))
    .filter(|near| !near.is_empty())
}

fn text(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        _ => None,
    }
}
