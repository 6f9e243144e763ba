//! The package list of the tree experiment: what functions may pick from.
//!
//! One package a line, `NAME[==VERSION][: MODULE ...]`; `#` begins a comment. Without modules the
//! package is imported by its own name. A JSON list of such lines, and the `package` lines of a
//! recorded trace (`{"event": "package", "name": ..., "top": [...]}`), are read as well.

use crate::base::Random;
use serde_json::Value;

/// Packages of one list.
const PACKAGES_MAX: usize = 100_000;

/// What packages are called when they are imported, where the list does not say and it is not
/// their own name.
const MODULES: [(&str, &str); 19] = [
    ("attrs", "attr"),
    ("beautifulsoup4", "bs4"),
    ("google-api-core", "google.api_core"),
    ("google-auth", "google.auth"),
    ("grpcio", "grpc"),
    ("msgpack-python", "msgpack"),
    ("opencv-python", "cv2"),
    ("pillow", "PIL"),
    ("protobuf", "google.protobuf"),
    ("pycryptodome", "Crypto"),
    ("pyjwt", "jwt"),
    ("pyopenssl", "OpenSSL"),
    ("python-dateutil", "dateutil"),
    ("python-dotenv", "dotenv"),
    ("pyyaml", "yaml"),
    ("pyzmq", "zmq"),
    ("ruamel-yaml", "ruamel.yaml"),
    ("scikit-image", "skimage"),
    ("scikit-learn", "sklearn"),
];

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Package {
    /// As it is installed.
    pub requirement: String,
    /// As it is imported.
    pub modules: Vec<String>,
}

/// The packages of a list, or what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Package>, String> {
    let packages = match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(items)) => {
            let read = |(at, item): (usize, &Value)| {
                let line = item.as_str().ok_or("it is no text".to_owned());
                line.and_then(package)
                    .map_err(|why| format!("item {}: {why}", at + 1))
            };
            items
                .iter()
                .enumerate()
                .map(read)
                .collect::<Result<_, _>>()?
        }
        _ => lines(text)?,
    };
    match packages.len() {
        0 => Err("it names no package".to_owned()),
        count if count > PACKAGES_MAX => Err(format!("more than {PACKAGES_MAX} packages")),
        _ => Ok(packages),
    }
}

fn lines(text: &str) -> Result<Vec<Package>, String> {
    let mut packages = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let read = if line.starts_with('{') {
            recorded(line)
        } else {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            package(line).map(Some)
        };
        packages.extend(read.map_err(|why| format!("line {}: {why}", number + 1))?);
    }
    Ok(packages)
}

/// A line of a recorded trace; none where it tells of something else.
fn recorded(line: &str) -> Result<Option<Package>, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if value["event"] != "package" {
        return Ok(None);
    }
    let mut package = package(value["name"].as_str().ok_or("a package without a name")?)?;
    let top: Vec<String> = value["top"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|module| module.as_str().map(str::to_owned))
        .filter(|module| is_module(module))
        .collect();
    if !top.is_empty() {
        package.modules = top;
    }
    Ok(Some(package))
}

fn package(line: &str) -> Result<Package, String> {
    let (requirement, modules) = match line.split_once(':') {
        Some((requirement, modules)) => (requirement.trim(), Some(modules)),
        None => (line.trim(), None),
    };
    let (name, version) = match requirement.split_once("==") {
        Some((name, version)) => (name.trim(), Some(version.trim())),
        None => (requirement, None),
    };
    let legal = |text: &str, more: &str| {
        let letter = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
        !text.is_empty() && text.chars().all(letter)
    };
    let is_version = version.is_none_or(|version| legal(version, ".!+-_"));
    if !legal(name, "._-") || !is_version {
        return Err(format!("{requirement:?} is no NAME or NAME==VERSION"));
    }
    let modules: Vec<String> = match modules {
        Some(modules) => {
            let words = modules
                .split([' ', ',', '\t'])
                .filter(|word| !word.is_empty());
            words.map(str::to_owned).collect()
        }
        None => vec![module_of(name)],
    };
    if let Some(bad) = modules.iter().find(|module| !is_module(module)) {
        return Err(format!("{bad:?} cannot be imported"));
    }
    Ok(Package {
        requirement: version.map_or(name.to_owned(), |version| format!("{name}=={version}")),
        modules,
    })
}

fn module_of(name: &str) -> String {
    let normal = name.to_ascii_lowercase().replace(['_', '.'], "-");
    let known = MODULES.iter().find(|(package, _)| *package == normal);
    known.map_or_else(
        || normal.replace('-', "_"),
        |(_, module)| (*module).to_owned(),
    )
}

fn is_module(text: &str) -> bool {
    let is_name = |part: &str| {
        part.chars().all(|c| c.is_alphanumeric() || c == '_')
            && part.starts_with(|c: char| c.is_alphabetic() || c == '_')
    };
    text.split('.').all(is_name)
}

/// So many different ones, uniformly.
pub fn pick<'a>(packages: &'a [Package], picks: usize, random: &mut Random) -> Vec<&'a Package> {
    let mut places: Vec<usize> = Vec::with_capacity(picks);
    for last in packages.len() - picks..packages.len() {
        // Floyd's: each set of this size is equally likely.
        let place = random.below(last as u64 + 1) as usize;
        let taken = places.contains(&place);
        places.push(if taken { last } else { place });
    }
    places.iter().map(|place| &packages[*place]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(String, String)> {
        let packages = parse(text).expect("a list");
        let pair = |package: Package| (package.requirement, package.modules.join(" "));
        packages.into_iter().map(pair).collect()
    }

    fn pair(requirement: &str, modules: &str) -> (String, String) {
        (requirement.to_owned(), modules.to_owned())
    }

    #[test]
    fn lists_of_every_kind() {
        let wanted = [
            pair("numpy==1.26.4", "numpy"),
            pair("scikit-learn", "sklearn"),
            pair("zope.interface", "zope.interface zope"),
        ];
        let lines = "# a list\nnumpy==1.26.4\n\nscikit-learn # machine learning\n\
                     zope.interface: zope.interface zope\n";
        assert_eq!(of(lines), wanted);
        let json = r#"["numpy==1.26.4", "scikit-learn", "zope.interface: zope.interface, zope"]"#;
        assert_eq!(of(json), wanted);
        let recorded = "{\"event\": \"package\", \"name\": \"a==1\", \"top\": [\"b\"]}\n\
                        {\"event\": \"invocation\", \"t\": 0}\n";
        assert_eq!(of(recorded), [pair("a==1", "b")]);
    }

    #[test]
    fn what_is_no_list_is_told_where() {
        for (text, why) in [
            ("", "it names no package"),
            ("a\nb c\n", "line 2: \"b c\" is no NAME or NAME==VERSION"),
            ("a: b;c", "line 1: \"b;c\" cannot be imported"),
            ("a>=1", "line 1: \"a>=1\" is no NAME or NAME==VERSION"),
            ("[1]", "item 1: it is no text"),
        ] {
            assert_eq!(parse(text), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn picks_are_different_uniform_and_repeatable() {
        let lines: Vec<_> = (0..10).map(|number| format!("p{number}")).collect();
        let packages = parse(&lines.join("\n")).expect("a list");
        let mut random = Random::new(3);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            let mut names: Vec<_> = pick(&packages, 4, &mut random)
                .iter()
                .map(|package| package.requirement.clone())
                .collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), 4);
            for name in names {
                seen[name[1..].parse::<usize>().expect("a number")] += 1;
            }
        }
        assert!(
            seen.iter().all(|count| (3700..4300).contains(count)),
            "{seen:?}"
        );
        let again = |seed| {
            let picks = pick(&packages, 10, &mut Random::new(seed));
            picks.into_iter().cloned().collect::<Vec<_>>()
        };
        assert_eq!(again(5), again(5));
    }
}
