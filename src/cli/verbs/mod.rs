//! One file a verb: how it is typed, and what it does.

pub mod bench;
pub mod check;
pub mod completions;
pub mod deploy;
pub mod fit;
pub mod invoke;
pub mod list;
pub mod logs;
pub mod man;
pub mod pkg;
pub mod rm;
pub mod rollback;
pub mod serve;
pub mod show;
pub mod sim;
pub mod stats;
pub mod top;
pub mod tree;
pub mod worker;

use super::failure::Failure;
use crate::base::FunctionName;
use serde_json::Value;
use std::fmt::Write as _;

/// A name that can be a function's, or the failure that says what it must be.
fn function_name(what: &str, name: &str) -> Result<FunctionName, Failure> {
    FunctionName::new(name).ok_or_else(|| {
        let why = format!("{name:?} cannot be a function's name");
        Failure::usage(what, why, format!("a name is {}", FunctionName::RULE))
    })
}

/// A value of an answer, as it stands in a table: nothing for null.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// An object as lines `key: value`, nested ones with their path: for people.
fn lines(value: &Value) -> String {
    let mut out = String::new();
    let mut open: Vec<(String, &Value)> = vec![(String::new(), value)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Object(entries) => {
                let below = |key: &String| {
                    if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    }
                };
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(key, value)| (below(key), value))
                    .collect();
                open.extend(entries.into_iter().rev());
            }
            Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
                let items: Vec<_> = items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| (format!("{path}[{index}]"), item))
                    .collect();
                open.extend(items.into_iter().rev());
            }
            value => {
                let text = super::failure::one_line(&cell(value));
                writeln!(out, "{path}: {text}").expect("a string takes everything");
            }
        }
    }
    out
}

/// The list in an answer: the answer itself, or what it holds under this name.
fn items<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    let list = answer.as_array().or_else(|| answer[name].as_array());
    list.map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_lines() {
        let value: Value = serde_json::from_str(
            r#"{"a": 1, "b": {"c": "x\ny", "d": [1, 2]}, "e": [{"f": null}]}"#,
        )
        .expect("JSON");
        assert_eq!(lines(&value), "a: 1\nb.c: x\\ny\nb.d: 1, 2\ne[0].f: \n");
    }

    #[test]
    fn lists_are_found() {
        let bare: Value = serde_json::from_str("[1, 2]").expect("JSON");
        let named: Value = serde_json::from_str(r#"{"functions": [1]}"#).expect("JSON");
        assert_eq!(items(&bare, "functions").len(), 2);
        assert_eq!(items(&named, "functions").len(), 1);
        assert!(items(&named, "versions").is_empty());
    }
}
