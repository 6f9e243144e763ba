//! Lists of numbers on the command line, and numbers in what is printed.

use serde_json::{Number, Value};

/// More sizes than this in one range are a typing mistake.
const SIZES_MAX: usize = 10_000;

/// How sizes are typed, for whoever typed something else.
pub const SIZES: &str = "1000,2000 or LO..HI/STEP, as 1000..8000/500";

/// Memory sizes: `1000,2000` or `LO..HI/STEP`, or both mixed. `HI` is one of them if a step hits
/// it.
pub fn sizes(list: &str) -> Result<Vec<f64>, String> {
    let mut sizes = Vec::new();
    for part in list.split(',') {
        match part.split_once("..") {
            Some((low, rest)) => range(part, low, rest, &mut sizes)?,
            None => sizes.push(size(part)?),
        }
        if sizes.len() > SIZES_MAX {
            return Err(format!("`{list}` are more than {SIZES_MAX} sizes"));
        }
    }
    Ok(sizes)
}

fn range(part: &str, low: &str, rest: &str, sizes: &mut Vec<f64>) -> Result<(), String> {
    let Some((high, step)) = rest.split_once('/') else {
        return Err(format!("`{part}` has no step"));
    };
    let (low, high, step) = (size(low)?, size(high)?, size(step)?);
    if high < low {
        return Err(format!("`{part}` ends before it begins"));
    }
    let count = ((high - low) / step * (1.0 + 1e-12)).floor();
    if count >= SIZES_MAX as f64 {
        return Err(format!("`{part}` are more than {SIZES_MAX} sizes"));
    }
    sizes.extend((0..=count as usize).map(|index| low + index as f64 * step));
    Ok(())
}

fn size(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(size) if size.is_finite() && size > 0.0 => Ok(size),
        _ => Err(format!("`{text}` is no number of megabytes above zero")),
    }
}

/// A whole number is written as one.
pub fn json(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// As `json`, as text.
pub fn plain(value: f64) -> String {
    json(value).to_string()
}

/// A field of a CSV file.
pub fn quoted(text: &str) -> String {
    if text.contains(['"', ',', '\n']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges() {
        assert_eq!(sizes("1000,2.5").unwrap(), [1_000.0, 2.5]);
        assert_eq!(
            sizes("1..2/0.25,9").unwrap(),
            [1.0, 1.25, 1.5, 1.75, 2.0, 9.0]
        );
        assert_eq!(sizes("10..29/10").unwrap(), [10.0, 20.0]);
        assert_eq!(sizes("0.1..0.3/0.1").unwrap().len(), 3);
        for bad in [
            "", "x", "0", "-1", "NaN", "5..6", "6..5/1", "1..2/0", "1..1e9/1", "1,,2",
        ] {
            assert!(sizes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whole_numbers_are_written_whole() {
        assert_eq!(plain(120.0), "120");
        assert_eq!(plain(120.3), "120.3");
        assert_eq!(plain(f64::NAN), "null");
    }

    #[test]
    fn csv_fields_with_commas_are_quoted() {
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("plain"), "plain");
    }
}
