//! A value as it was typed, before anybody knows what it means.

use serde_json::{Map, Value};
use toml::de::DeValue;

#[derive(Clone, PartialEq, Debug)]
pub enum Typed {
    Text(String),
    /// Decimal digits, with a sign perhaps: what does not fit is refused by the key's range.
    Integer(String),
    Float(f64),
    Flag(bool),
    Moment(String),
    List(Vec<Self>),
    Table(Vec<(String, Self)>),
}

impl Typed {
    pub fn read(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(integer) => Self::Integer(decimal(integer.as_str(), integer.radix())),
            DeValue::Float(float) => Self::Float(float.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(flag) => Self::Flag(*flag),
            DeValue::Datetime(moment) => Self::Moment(moment.to_string()),
            DeValue::Array(items) => Self::List(
                items
                    .iter()
                    .map(|item| Self::read(item.get_ref()))
                    .collect(),
            ),
            DeValue::Table(table) => {
                let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                    let key: &std::borrow::Cow<'_, str> = key.get_ref();
                    (key.to_string(), Self::read(value.get_ref()))
                };
                Self::Table(table.iter().map(entry).collect())
            }
        }
    }

    /// Its type, as it stands in texts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::Flag(_) => "true or false",
            Self::Moment(_) => "a date or time",
            Self::List(items) if items.iter().all(|item| matches!(item, Self::Text(_))) => {
                "a list of strings"
            }
            Self::List(_) => "a list of other things than strings",
            Self::Table(_) => "a table",
        }
    }

    /// The strings of a list; a string is a list of one, the empty string of none.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Text(text) if text.is_empty() => Vec::new(),
            Self::Text(text) => vec![text.clone()],
            Self::List(items) => items.iter().flat_map(Self::texts).collect(),
            _ => Vec::new(),
        }
    }

    pub fn to_json(&self) -> Value {
        match self {
            Self::Text(text) | Self::Moment(text) => Value::String(text.clone()),
            Self::Integer(digits) => digits
                .parse::<i64>()
                .map_or_else(|_| Value::String(digits.clone()), Value::from),
            Self::Float(float) => Value::from(*float),
            Self::Flag(flag) => Value::Bool(*flag),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Table(entries) => {
                let entries = entries
                    .iter()
                    .map(|(key, value)| (key.clone(), value.to_json()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }

    /// As TOML, in one line.
    pub fn to_toml(&self) -> String {
        match self {
            // Strings with quotes read best in the other quotes: JSON trees are such.
            Self::Text(text) | Self::Moment(text)
                if text.contains('"')
                    && !text.contains("''")
                    && !text.ends_with('\'')
                    && !text.contains(char::is_control) =>
            {
                format!("'''{text}'''")
            }
            Self::Text(text) | Self::Moment(text) => toml::Value::String(text.clone()).to_string(),
            Self::Integer(digits) => digits.clone(),
            Self::Float(float) => toml::Value::Float(*float).to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::to_toml).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Table(entries) => {
                let entry = |(key, value): &(String, Self)| {
                    let key = toml::Value::String(key.clone());
                    format!("{key} = {}", value.to_toml())
                };
                let entries: Vec<String> = entries.iter().map(entry).collect();
                format!("{{ {} }}", entries.join(", "))
            }
        }
    }
}

/// `ff` in base 16 is `255`; what no machine word holds stays as it is typed.
fn decimal(digits: &str, radix: u32) -> String {
    i128::from_str_radix(digits, radix)
        .map_or_else(|_| digits.to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Typed {
        Typed::read(DeValue::parse(text).unwrap().get_ref())
    }

    #[test]
    fn numbers_of_every_base_are_decimal() {
        assert_eq!(read("0xff"), Typed::Integer("255".to_owned()));
        assert_eq!(read("1_000"), Typed::Integer("1000".to_owned()));
        assert_eq!(read("-0"), Typed::Integer("0".to_owned()));
        assert_eq!(read("+7"), Typed::Integer("7".to_owned()));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let texts = [
            "",
            "a",
            "''",
            "'",
            "\"",
            "\"'''",
            "{\"a\": \"b'\"}",
            "\n\t\\",
            "é\u{7f}",
        ];
        for text in texts {
            let typed = Typed::Text(text.to_owned());
            assert_eq!(read(&typed.to_toml()), typed, "{}", typed.to_toml());
        }
        let list = read("['a', \"b\", 3, {x = 1.5, 'y z' = true}]");
        assert_eq!(read(&list.to_toml()), list);
    }

    #[test]
    fn a_string_is_a_list_of_one() {
        assert_eq!(read("'a'").texts(), ["a"]);
        assert_eq!(read("''").texts(), Vec::<String>::new());
        assert_eq!(read("['a', 'b']").texts(), ["a", "b"]);
    }
}
