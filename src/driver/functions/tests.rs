//! Functions that come, change and go, over a registry on a disk.

use super::*;
use crate::base::Key;
use std::fs;
use std::path::PathBuf;

const CALL: CallKey = Key::new(1, 1);
const CACHE: Duration = Duration::from_secs(5);

struct Bed {
    root: PathBuf,
    registry: Registry,
    functions: Functions,
}

impl Bed {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("ol-fun-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let registry = Files::open(
            &root.join("registry"),
            &root.join("cache"),
            3,
            crate::host::unprivileged::Unprivileged::InProcess,
        )
        .unwrap();
        let functions = Functions::new(4, CACHE);
        Self {
            root,
            registry: Registry::Files(registry),
            functions,
        }
    }

    fn files(&self) -> &Files {
        self.registry.files().unwrap()
    }

    fn write(&self, name: &str, code: &str) {
        fs::write(self.root.join("registry").join(name), code).unwrap();
    }

    /// Looks a name up, doing the check at once where one is wanted.
    fn call(&mut self, name: &str, at: u64) -> Result<FunctionKey, Outcome> {
        let now = Time::from_millis(at);
        match self
            .functions
            .lookup(&FunctionName::new(name).unwrap(), CALL, now)
        {
            Lookup::Known(key) => Ok(key),
            Lookup::Check(check) => {
                let checked = check.run(&self.registry);
                let resolved = self.functions.checked(checked, now);
                assert_eq!(resolved.calls, [CALL]);
                Err(resolved.outcome)
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[test]
fn an_unknown_name_leaves_nothing() {
    let mut bed = Bed::new("unknown");
    for round in 0..10 {
        let outcome = bed.call("nobody", round).unwrap_err();
        assert!(matches!(outcome, Outcome::Absent { was_known: false }));
    }
    assert!(bed.functions.slab.is_empty() && bed.functions.by_name.is_empty());
}

#[test]
fn code_is_looked_at_once_a_while_and_changes_are_found() {
    let mut bed = Bed::new("fresh");
    bed.write("x.py", "one");
    assert!(matches!(bed.call("x", 0), Err(Outcome::Deployed)));
    let key = bed.call("x", 10).unwrap();
    bed.write("x.py", "other");
    assert_eq!(bed.call("x", 4_000).unwrap(), key);
    assert!(matches!(bed.call("x", 6_000), Err(Outcome::Deployed)));
    assert_eq!(bed.functions.get(key).unwrap().version, 2);
    assert!(matches!(bed.call("x", 20_000), Err(Outcome::Unchanged)));
}

#[test]
fn broken_code_keeps_the_old_one_serving() {
    let mut bed = Bed::new("broken");
    bed.write("x.zip", "PK\x03\x04 no zip");
    assert!(matches!(bed.call("x", 0), Err(Outcome::Unusable(_))));
    assert!(bed.functions.slab.is_empty());
    fs::remove_file(bed.root.join("registry/x.zip")).unwrap();
    bed.write("x.py", "one");
    assert!(matches!(bed.call("x", 0), Err(Outcome::Deployed)));
    bed.write("x.py", "\u{1}\u{2}");
    let Err(Outcome::Kept(why)) = bed.call("x", 6_000) else {
        panic!()
    };
    assert!(why.contains("can be deployed"), "{why}");
    assert!(bed.call("x", 6_001).is_ok());
}

#[test]
fn what_nobody_could_look_for_is_not_called_absent() {
    let mut bed = Bed::new("unlooked");
    bed.write("x.py", "one");
    let name = FunctionName::new("x").unwrap();
    let Lookup::Check(check) = bed.functions.lookup(&name, CALL, Time::ZERO) else {
        panic!()
    };
    let resolved = bed.functions.unchecked(&check);
    assert!(matches!(resolved.outcome, Outcome::Unlooked));
    assert_eq!(resolved.calls, [CALL]);
    assert!(bed.functions.slab.is_empty());
    assert!(matches!(bed.call("x", 1), Err(Outcome::Deployed)));
}

#[test]
fn a_function_that_went_is_gone_and_its_name_free() {
    let mut bed = Bed::new("gone");
    bed.write("x.py", "one");
    assert!(matches!(bed.call("x", 0), Err(Outcome::Deployed)));
    let old = bed.call("x", 1).unwrap();
    fs::remove_file(bed.root.join("registry/x.py")).unwrap();
    let outcome = bed.call("x", 6_000).unwrap_err();
    assert!(matches!(outcome, Outcome::Absent { was_known: true }));
    bed.write("x.py", "two");
    assert!(matches!(bed.call("x", 6_001), Err(Outcome::Deployed)));
    assert_ne!(bed.call("x", 6_002).unwrap(), old);
    bed.functions.retired(old);
    assert_eq!(bed.functions.slab.len(), 1);
}

#[test]
fn a_look_from_before_an_upload_does_not_undo_it() {
    let mut bed = Bed::new("race");
    bed.write("x.py", "one");
    assert!(matches!(bed.call("x", 0), Err(Outcome::Deployed)));
    let name = FunctionName::new("x").unwrap();
    let late = Time::from_millis(9_000);
    bed.write("x.py", "by hand");
    let Lookup::Check(check) = bed.functions.lookup(&name, CALL, late) else {
        panic!()
    };
    let looked = check.run(&bed.registry);
    let mut upload = bed.files().incoming(1).unwrap();
    std::io::Write::write_all(&mut upload.file, b"uploaded").unwrap();
    let (_, code, change) = Put { name, upload }.run(bed.files()).unwrap();
    let digest = code.image.digest;
    let Deployed::Newest(key) = bed.functions.deployed(&name, code, change, late) else {
        panic!()
    };
    assert!(matches!(
        bed.functions.checked(looked, late).outcome,
        Outcome::Unchanged
    ));
    let code = bed.functions.get(key).unwrap().code.as_ref().unwrap();
    assert_eq!(code.image.digest, digest);
}

#[test]
fn code_without_an_entry_is_refused() {
    let bed = Bed::new("entry");
    let directory = bed.root.join("registry/x");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("other.py"), "").unwrap();
    let found = |bed: &Bed| {
        let name = FunctionName::new("x").unwrap();
        let found = bed.files().find(&name).unwrap().unwrap();
        let loaded = bed.files().load(&found, &settings);
        loaded.map_err(|bad| bad.to_string())
    };
    let all = "f.py or app.py or main.py is missing";
    assert!(found(&bed).unwrap_err().contains(all));
    let settle = |variable: &str, value: &str| {
        let text = format!("[environment]\n{variable} = \"{value}\"");
        fs::write(directory.join("ol.toml"), text).unwrap();
    };
    for entry in ["other:app", "other.py:app", "other", "other.app"] {
        settle("OL_WSGI_ENTRY", entry);
        assert!(found(&bed).is_ok(), "{entry}");
    }
    for entry in ["app", ":app", "third:app"] {
        settle("OL_WSGI_ENTRY", entry);
        assert!(found(&bed).is_err(), "{entry}");
    }
    fs::write(directory.join("main.py"), "").unwrap();
    for (entry, is_found) in [("app", true), (":app", true), ("third:app", false)] {
        settle("OL_WSGI_ENTRY", entry);
        assert_eq!(found(&bed).is_ok(), is_found, "{entry}");
    }
    // A package may bring it, but not what is a file by its name.
    settle("OL_WSGI_ENTRY", "third.web:app");
    let why = found(&bed).unwrap_err();
    assert!(why.contains("could bring third.web"), "{why}");
    fs::write(directory.join("requirements.txt"), "third\n").unwrap();
    assert!(found(&bed).is_ok());
    settle("OL_WSGI_ENTRY", "third.py:app");
    assert!(found(&bed).is_err());
    fs::remove_file(directory.join("requirements.txt")).unwrap();
    settle("OL_ENTRY_FILE", "third.py");
    assert!(found(&bed).is_err());
    settle("OL_ENTRY_FILE", "");
    assert!(found(&bed).is_ok());
    fs::write(directory.join("ol.toml"), "zigote = true").unwrap();
    assert!(found(&bed).unwrap_err().contains("did you mean zygote"));
}

#[test]
fn of_two_uploads_the_later_one_stays_whoever_is_heard_of_first() {
    let mut bed = Bed::new("order");
    bed.write("x.py", "by hand");
    assert!(matches!(bed.call("x", 0), Err(Outcome::Deployed)));
    let name = FunctionName::new("x").unwrap();
    let put = |number: u64| {
        let mut upload = bed.files().incoming(number).unwrap();
        std::io::Write::write_all(&mut upload.file, format!("{number}").as_bytes()).unwrap();
        let (_, code, change) = Put { name, upload }.run(bed.files()).unwrap();
        (code, change)
    };
    let ((first, before), (second, after)) = (put(1), put(2));
    assert!(before < after);
    let (digest, now) = (second.image.digest, Time::from_millis(1));
    let heard = bed.functions.deployed(&name, second, after, now);
    assert!(matches!(heard, Deployed::Newest(_)));
    let heard = bed.functions.deployed(&name, first, before, now);
    assert!(matches!(heard, Deployed::Outdone));
    let code = bed.functions.named(&name).unwrap().code.as_ref().unwrap();
    assert_eq!(code.image.digest, digest);
    // As the registry has it: nothing new is found there.
    assert!(matches!(bed.call("x", 6_000), Err(Outcome::Unchanged)));
}
