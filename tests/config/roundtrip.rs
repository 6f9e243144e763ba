//! Any configuration that can be typed is written and read back as itself.

use olworker::config::key::{Key, Kind, Text};
use olworker::config::keys::KEYS;
use olworker::config::meaning::{Config, Home};
use olworker::config::read::{SourceFile, Sources, read};
use olworker::config::tree::Tree;
use olworker::config::typed::Typed;
use olworker::config::{Machine, render};
use proptest::prelude::*;
use std::path::PathBuf;

const MACHINE: Machine = Machine {
    ram_bytes: 1 << 50,
    cpus: 4,
};

/// A path as people have them, and worse: blanks, quotes, other alphabets.
fn path() -> impl Strategy<Value = String> {
    let part = "[A-Za-z0-9 '\"\\\\#=é\u{1F600}_-]{1,12}";
    proptest::collection::vec(part, 1..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn package() -> impl Strategy<Value = String> {
    (
        "[A-Za-z][A-Za-z0-9._-]{0,6}[a-z0-9]",
        proptest::option::of("[0-9]\\.[0-9a-z]{1,3}"),
    )
        .prop_map(|(name, version)| match version {
            Some(version) => format!("{name}=={version}"),
            None => name,
        })
}

/// Trees up to some depth; those that contradict themselves are not taken.
fn tree() -> impl Strategy<Value = String> {
    let leaf = proptest::collection::vec(package(), 0..3)
        .prop_map(|packages| serde_json::json!({"packages": packages, "children": []}));
    let node = leaf.prop_recursive(4, 24, 4, |inner| {
        (proptest::collection::vec(package(), 0..3), proptest::collection::vec(inner, 0..4))
            .prop_map(|(packages, children)| {
                serde_json::json!({"packages": packages, "children": children, "benefit": 1.5})
            })
    });
    let root = node.prop_map(|mut root| {
        root["packages"] = serde_json::json!([]);
        root.to_string()
    });
    root.prop_filter("a tree without contradictions", |text| {
        Tree::from_json(text).is_ok()
    })
}

/// Something that this key takes.
fn value(key: &'static Key) -> BoxedStrategy<Typed> {
    let text = |strategy: BoxedStrategy<String>| strategy.prop_map(Typed::Text).boxed();
    match &key.kind {
        Kind::Number(number) => {
            let zero = number.zero.map(|_| 0);
            let range = number.min..=number.max;
            let number = prop_oneof![Just(zero.unwrap_or(number.min)), range];
            number
                .prop_map(|number| Typed::Integer(number.to_string()))
                .boxed()
        }
        Kind::Flag(_) => any::<bool>().prop_map(Typed::Flag).boxed(),
        Kind::Word(word) => {
            let words = proptest::sample::select(word.words);
            text(words.prop_map(str::to_owned).boxed())
        }
        Kind::Text(Text::Path(_) | Text::AbsolutePath(_)) => text(path().boxed()),
        Kind::Text(Text::OptionalPath(_)) => text(prop_oneof![Just(String::new()), path()].boxed()),
        Kind::Text(Text::Address(_)) => {
            let v4 = (any::<[u8; 4]>(), any::<u16>())
                .prop_map(|(ip, port)| std::net::SocketAddr::from((ip, port)).to_string());
            let v6 = (any::<[u16; 8]>(), any::<u16>())
                .prop_map(|(ip, port)| std::net::SocketAddr::from((ip, port)).to_string());
            text(prop_oneof![Just(String::new()), v4, v6].boxed())
        }
        Kind::Text(Text::Url(_)) => {
            let url = "https?://[a-z]{1,8}(:[0-9]{2,4})?/[a-z'\"=&?]{0,9}";
            text(prop_oneof![Just(String::new()), url].boxed())
        }
        Kind::Text(Text::Registry(_)) => {
            let url = "(https?|s3)://[a-z]{1,8}/[a-z]{0,9}";
            text(
                prop_oneof![
                    path(),
                    url,
                    path().prop_map(|path| format!("file://{path}"))
                ]
                .boxed(),
            )
        }
        Kind::Text(Text::Base(_)) => text(prop_oneof![Just("host".to_owned()), path()].boxed()),
        Kind::List(_) => proptest::collection::vec("[ -~é\n]{1,12}".prop_map(Typed::Text), 0..4)
            .prop_map(Typed::List)
            .boxed(),
        Kind::Tree => text(prop_oneof![Just(String::new()), path(), tree()].boxed()),
    }
}

fn all_values() -> BoxedStrategy<Vec<Typed>> {
    KEYS.iter().map(value).collect::<Vec<_>>().boxed()
}

fn read_back(text: String) -> Result<Config, String> {
    let path = PathBuf::from("/etc/olworker/olworker.toml");
    let files = vec![SourceFile { path, text }];
    let sources = Sources {
        files,
        ..Sources::default()
    };
    match read(&sources, Home::installed(), MACHINE) {
        Ok(loaded) => Ok(loaded.config),
        Err(problems) => Err(problems[0].to_string()),
    }
}

/// No files are left in the source tree; what fails is printed.
fn settings() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn what_is_typed_is_written_and_read_back(values in all_values()) {
        let mut text = String::new();
        for (key, value) in KEYS.iter().zip(&values) {
            text += &[key.name, " = ", &value.to_toml(), "\n"].concat();
        }
        // Directories within each other and sockets with long names are refused as they should be.
        let typed = read_back(text);
        prop_assume!(typed.is_ok());
        let config = typed.expect("it was just seen");
        let again = read_back(render::toml(&config, "again"));
        prop_assert_eq!(again.as_ref(), Ok(&config));
        prop_assert!(Config::changes(&config, &again.expect("it was just seen")).is_empty());
    }

    #[test]
    fn each_key_alone_is_written_and_read_back(
        (index, value) in (0..KEYS.len()).prop_flat_map(|index| (Just(index), value(&KEYS[index])))
    ) {
        let key = &KEYS[index];
        let typed = read_back(format!("{} = {}\n", key.name, value.to_toml()));
        let is_joint = ["http.unix", "packages.dir", "registry.url"].contains(&key.name);
        prop_assume!(typed.is_ok() || !is_joint);
        let config = typed.map_err(TestCaseError::fail)?;
        prop_assert_eq!(read_back(render::toml(&config, "again")), Ok(config));
    }
}
