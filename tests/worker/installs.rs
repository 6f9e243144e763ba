//! Installs from an index that is watched: what is fetched how often, and what remains of installs
//! that were cut off.

use super::index::Index;
use super::on_both;
use super::rig::{Worker, is_alive, pause, worker_in};
use super::wheels::{Wheel, directory, record_hash};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A worker whose only index is one of this test's.
struct Bed {
    worker: Worker,
    index: Index,
    wheels: PathBuf,
}

impl Bed {
    fn new(
        name: &str,
        back_end: &str,
        overrides: &[&str],
        environment: &[(&'static str, String)],
    ) -> Option<Self> {
        let wheels = directory(&format!("{name}-{back_end}"));
        fs::create_dir_all(&wheels).unwrap();
        let index = Index::start(&wheels);
        let setting = index.setting();
        let all: Vec<&str> = core::iter::once(setting.as_str())
            .chain(overrides.iter().copied())
            .collect();
        let worker = worker_in(back_end, &all, environment)?;
        Some(Self {
            worker,
            index,
            wheels,
        })
    }

    /// A function that needs these, and says what it finds.
    fn deploy(&self, name: &str, modules: &[&str]) {
        let asked = modules.join(", ");
        let code = format!(
            "# ol-install: {asked}\nimport {asked}\n\
             def f(event):\n    return [it.here for it in ({asked},)]\n"
        );
        self.worker.deploy(name, &code);
    }

    fn result(&self, name: &str) -> serde_json::Value {
        let answer = self.worker.call(name, "{}");
        let log = self.worker.log();
        assert_eq!(answer.status, 200, "{name}: {} {log}", answer.text());
        answer.json()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.wheels);
    }
}

/// One module that says who it is, and needs these.
fn part(wheels: &Path, name: &str, requires: &[&str]) {
    let (file, code) = (format!("{name}.py"), format!("here = {name:?}\n"));
    let files = [(file.as_str(), code.as_str())];
    let part = Wheel {
        requires,
        ..Wheel::new(name, "1.0", &files)
    };
    part.write(wheels);
}

fn fifty_at_once_fetch_each_package_once(back_end: &str) {
    const FUNCTIONS: usize = 50;
    const PARTS: usize = 10;
    let Some(bed) = Bed::new("fifty", back_end, &[], &[]) else {
        return;
    };
    part(&bed.wheels, "common", &[]);
    let names: Vec<String> = (0..PARTS).map(|number| format!("part{number}")).collect();
    for name in &names {
        part(&bed.wheels, name, &["common"]);
    }
    // No two need the same.
    let needs = |number: usize| {
        let (one, step) = (number % PARTS, 1 + number / PARTS);
        [names[one].as_str(), names[(one + step) % PARTS].as_str()]
    };
    for number in 0..FUNCTIONS {
        bed.deploy(&format!("f{number}"), &needs(number));
    }
    std::thread::scope(|scope| {
        for number in 0..FUNCTIONS {
            let (bed, needs) = (&bed, needs(number));
            let call =
                move || assert_eq!(bed.result(&format!("f{number}")), serde_json::json!(needs));
            std::thread::Builder::new()
                .spawn_scoped(scope, call)
                .unwrap();
        }
    });
    let asked = bed.index.asked(".whl");
    assert_eq!(asked.len(), PARTS + 1, "{asked:?}");
    assert!(asked.values().all(|count| *count == 1), "{asked:?}");
}

/// One run installs several only where it is uv that installs.
fn installs_by_uv(bed: &Bed) -> bool {
    let listed = bed.worker.get("/packages").json();
    let installer = listed["installer"].as_str().unwrap_or("").to_owned();
    let is_uv = installer.starts_with("uv");
    if !is_uv {
        let _ = writeln!(
            std::io::stderr(),
            "SKIP: one run installs several packages where uv installs, here {installer:?} does"
        );
    }
    is_uv
}

/// Runs of installers that brought packages.
fn runs(bed: &Bed) -> Vec<String> {
    let log = bed.worker.log();
    let is_run = |line: &&str| {
        let brings = line.contains("Fetch([") || line.contains("Ahead: ");
        brings && line.contains("ms under way")
    };
    log.lines().filter(is_run).map(str::to_owned).collect()
}

fn a_set_is_installed_by_one_run(back_end: &str) {
    let Some(mut bed) = Bed::new("joint", back_end, &["log.level=debug"], &[]) else {
        return;
    };
    part(&bed.wheels, "low", &[]);
    part(&bed.wheels, "high", &["low"]);
    part(&bed.wheels, "other", &[]);
    part(&bed.wheels, "late", &["low", "later"]);
    part(&bed.wheels, "later", &[]);
    bed.deploy("first", &["high", "other"]);
    assert_eq!(bed.result("first"), serde_json::json!(["high", "other"]));
    if !installs_by_uv(&bed) {
        return;
    }
    assert_eq!(runs(&bed).len(), 1, "{:?}", runs(&bed));
    bed.worker.until("nothing else is done", |worker| {
        let listed = worker.get("/packages").json();
        let mut packages = listed["packages"].as_array().unwrap().iter();
        packages.all(|package| package["profile"].is_object())
    });
    // Some of it is there.
    bed.deploy("second", &["late", "later"]);
    assert_eq!(bed.result("second"), serde_json::json!(["late", "later"]));
    assert_eq!(runs(&bed).len(), 2, "{:?}", runs(&bed));
    let asked = bed.index.asked(".whl");
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert!(asked.values().all(|count| *count == 1), "{asked:?}");
}

fn what_is_installed_together_is_kept_apart(back_end: &str) {
    let Some(bed) = Bed::new("apart", back_end, &["log.level=debug"], &[]) else {
        return;
    };
    let alone = |name: &str| {
        bed.deploy(&format!("only_{name}"), &[name]);
        assert_eq!(
            bed.result(&format!("only_{name}")),
            serde_json::json!([name])
        );
    };
    // A file of another package, which both say is theirs.
    part(&bed.wheels, "victim", &[]);
    let files = [
        ("poser.py", "here = 'poser'\n"),
        ("victim.py", "here = 'poser'\n"),
    ];
    Wheel::new("poser", "1.0", &files).write(&bed.wheels);
    bed.deploy("both", &["poser", "victim"]);
    bed.result("both");
    alone("victim");
    // All of another package, with what it says of itself.
    part(&bed.wheels, "prey", &[]);
    let files = [
        ("thief.py", "here = 'thief'\n"),
        ("prey.py", "here = 'thief'\n"),
        (
            "prey-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: prey\nVersion: 1.0\n",
        ),
        (
            "prey-1.0.dist-info/RECORD",
            "prey.py,,\nprey-1.0.dist-info/METADATA,,\n",
        ),
    ];
    Wheel::new("thief", "1.0", &files).write(&bed.wheels);
    bed.deploy("robbed", &["thief", "prey"]);
    let answer = bed.worker.call("robbed", "{}");
    assert_eq!(answer.code(), "install-failed", "{}", answer.text());
    assert!(answer.text().contains("thief"), "{}", answer.text());
    alone("prey");
    // One that is not what it says, and one that has done nothing.
    part(&bed.wheels, "decent", &[]);
    let liar = Wheel {
        lies_about: Some("liar.py"),
        ..Wheel::new("liar", "1.0", &[("liar.py", "here = 'liar'\n")])
    };
    liar.write(&bed.wheels);
    bed.deploy("misled", &["decent", "liar"]);
    let answer = bed.worker.call("misled", "{}");
    assert_eq!(answer.code(), "install-failed", "{}", answer.text());
    let why = "liar==1.0: liar.py is not what its RECORD says";
    assert!(answer.text().contains(why), "{}", answer.text());
    alone("decent");
    let asked = bed.index.asked("decent-1.0-py3-none-any.whl");
    assert!(asked.values().all(|count| *count == 1), "{asked:?}");
    // What they share is whole in each: a package without a file of its own at the top of the tree.
    for name in ["inner", "outer"] {
        let (file, code) = (format!("shared/{name}.py"), format!("here = {name:?}\n"));
        let all = [(file.as_str(), code.as_str()), ("shared/__init__.py", "")];
        Wheel::new(name, "1.0", &all).write(&bed.wheels);
    }
    let code = "# ol-install: inner, outer\nimport shared.inner, shared.outer\n\
                def f(event):\n    return [shared.inner.here, shared.outer.here]\n";
    bed.worker.deploy("sharing", code);
    assert_eq!(bed.result("sharing"), serde_json::json!(["inner", "outer"]));
    assert_whole(&bed.worker);
}

fn directories_are_looked_at_before_an_index(back_end: &str) {
    let beside = directory(&format!("beside-{back_end}"));
    part(&beside, "near", &[]);
    let links = format!("packages.find_links=[{:?}]", beside.display().to_string());
    let Some(bed) = Bed::new("order", back_end, &[&links], &[]) else {
        return;
    };
    part(&bed.wheels, "near", &[]);
    part(&bed.wheels, "far", &[]);
    bed.deploy("one", &["near"]);
    assert_eq!(bed.result("one"), serde_json::json!(["near"]));
    assert!(bed.index.asked("").is_empty(), "{:?}", bed.index.asked(""));
    bed.deploy("two", &["far"]);
    assert_eq!(bed.result("two"), serde_json::json!(["far"]));
    let _ = fs::remove_dir_all(beside);
}

fn what_is_installed_needs_no_index(back_end: &str) {
    let Some(mut bed) = Bed::new("offline", back_end, &[], &[]) else {
        return;
    };
    part(&bed.wheels, "low", &[]);
    part(&bed.wheels, "high", &["low"]);
    bed.deploy("old", &["high", "low"]);
    assert_eq!(bed.result("old"), serde_json::json!(["high", "low"]));
    bed.index.go_away();
    kill_and_start_again(&mut bed.worker);
    assert_eq!(bed.result("old"), serde_json::json!(["high", "low"]));
    // Nor does a function that comes later.
    bed.deploy("late", &["high", "low"]);
    assert_eq!(bed.result("late"), serde_json::json!(["high", "low"]));
    bed.deploy("other", &["never"]);
    let answer = bed.worker.call("other", "{}");
    assert_eq!(answer.code(), "install-failed");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("[packages] index_url"), "{detail}");
}

/// Every package of the store is there with facts and with each file its RECORD names.
fn assert_whole(worker: &Worker) {
    let listed = worker.get("/packages").json();
    for package in listed["packages"].as_array().unwrap() {
        let text = |key: &str| package[key].as_str().unwrap();
        let (name, version) = (text("name"), text("version"));
        let id = format!("{name}-{version}-{}", text("digest"));
        let root = tag_of(worker).join("store").join(&id);
        let record = root.join(format!("{name}-{version}.dist-info/RECORD"));
        let record = fs::read_to_string(&record).unwrap_or_else(|error| panic!("{id}: {error}"));
        for line in record.lines().filter(|line| !line.contains("/RECORD,")) {
            let fields: Vec<&str> = line.split(',').collect();
            // What the installer adds of its own is there or not.
            let Some(hash) = fields[1].strip_prefix("sha256=") else {
                continue;
            };
            let bytes = fs::read(root.join(fields[0]));
            let bytes = bytes.unwrap_or_else(|error| panic!("{id}: {}: {error}", fields[0]));
            assert_eq!(record_hash(&bytes), hash, "{id}: {}", fields[0]);
        }
    }
}

/// The part of the store that belongs to the interpreter.
fn tag_of(worker: &Worker) -> PathBuf {
    let mut parts = fs::read_dir(worker.directory.join("packages")).unwrap();
    parts.next().unwrap().unwrap().path()
}

/// As after a crash: its sandboxes are gone before the next one comes.
fn kill_and_start_again(worker: &mut Worker) {
    let children = worker.children();
    worker.kill();
    worker.until("what it had started is gone", |_| {
        !children.iter().any(|child| is_alive(*child))
    });
    worker.start_again();
}

fn nothing_half_installed_is_trusted(back_end: &str) {
    const KILLS: i64 = 5;
    let Some(mut bed) = Bed::new("killed", back_end, &[], &[]) else {
        return;
    };
    // Of many files, so that there is a middle.
    let names: Vec<String> = (0..8).map(|number| format!("big{number}")).collect();
    for name in &names {
        let mut files = vec![(format!("{name}/__init__.py"), format!("here = {name:?}\n"))];
        for number in 0..200 {
            let mut text = String::new();
            writeln!(text, "# {name}").unwrap();
            files.push((format!("{name}/part{number}.py"), text.repeat(100)));
        }
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        Wheel::new(name, "1.0", &files).write(&bed.wheels);
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    // One file is on its way when it ends.
    bed.index.cut("big0-1.0-py3-none-any.whl");
    bed.deploy("all", &all);
    let Bed { worker, index, .. } = &mut bed;
    worker.until("the file is half there", |_| {
        !index.asked("big0-1.0-py3-none-any.whl").is_empty()
    });
    kill_and_start_again(worker);
    index.mend();
    assert_whole(worker);
    let listed = worker.get("/packages").text().to_owned();
    assert!(!listed.contains("big0"), "{listed}");
    // Others are unpacked, checked, renamed or put together.
    for number in 0..KILLS {
        worker.ask(
            "POST",
            "/packages",
            "",
            br#"{"install": ["big1", "big2", "big3", "big4"]}"#,
        );
        pause(number * 60 + 20);
        kill_and_start_again(worker);
        assert_whole(worker);
    }
    assert_eq!(bed.result("all"), serde_json::json!(all));
    assert_whole(&bed.worker);
}

fn without_uv_pip_installs(back_end: &str) {
    let home = directory(&format!("home-{back_end}"));
    fs::create_dir_all(&home).unwrap();
    let environment = [
        ("PATH", "/usr/bin:/bin".to_owned()),
        ("XDG_CACHE_HOME", home.display().to_string()),
    ];
    // That index has no uv either.
    let Some(bed) = Bed::new("pip", back_end, &[], &environment) else {
        return;
    };
    part(&bed.wheels, "low", &[]);
    part(&bed.wheels, "high", &["low"]);
    bed.deploy("by_pip", &["high", "low"]);
    assert_eq!(bed.result("by_pip"), serde_json::json!(["high", "low"]));
    let listed = bed.worker.get("/packages").json();
    let installer = listed["installer"].as_str().unwrap_or("pip");
    assert!(installer.starts_with("pip"), "{installer}");
    assert!(
        bed.worker.log().contains("installed by pip"),
        "{}",
        bed.worker.log()
    );
    bed.deploy("nowhere", &["no_such_package_of_ours"]);
    let answer = bed.worker.call("nowhere", "{}");
    assert_eq!(answer.code(), "install-failed");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("check the name and version"), "{detail}");
    let _ = fs::remove_dir_all(home);
}

/// Whether zygotes had these imported before the function was.
const SEEN: &str = "import sys\nseen = [name in sys.modules for name in ('good', 'bad')]\n\
                    import good, bad\ndef f(event):\n    return seen\n";

fn what_zygotes_cannot_import_is_left_to_instances(back_end: &str) {
    let tree = "features.import_cache_tree={packages = [], children = [\
                {packages = ['good', 'bad']}, {packages = ['needy']}]}";
    let Some(mut bed) = Bed::new("unfit", back_end, &[tree], &[]) else {
        return;
    };
    part(&bed.wheels, "good", &[]);
    part(&bed.wheels, "needy", &["bad"]);
    let thread = "import threading\nhere = 'bad'\nstop = threading.Event()\n\
                  threading.Thread(target=stop.wait, daemon=True).start()\n";
    Wheel::new("bad", "1.0", &[("bad.py", thread)]).write(&bed.wheels);
    let deploy = |bed: &Bed, name: &str| {
        bed.worker
            .deploy(name, &format!("# ol-install: good, bad\n{SEEN}"));
    };
    deploy(&bed, "first");
    bed.deploy("needs", &["needy"]);
    bed.result("first");
    assert_eq!(bed.result("needs"), serde_json::json!(["needy"]));
    bed.worker.until("all are profiled", |worker| {
        let listed = worker.get("/packages").json();
        let mut packages = listed["packages"].as_array().unwrap().iter();
        packages.all(|package| package["profile"].is_object())
    });
    for number in 0.. {
        let name = format!("later{number}");
        deploy(&bed, &name);
        let answer = bed.worker.call(&name, "{}");
        assert_eq!(answer.status, 200, "{}", answer.text());
        // The node has what can be imported there, once it was planted anew.
        if answer.json() == serde_json::json!([true, false]) {
            assert_eq!(answer.field("x-ol-zygote"), Some("good,bad"));
            break;
        }
        assert_eq!(answer.json(), serde_json::json!([false, false]));
        assert!(number < 200, "{}", bed.worker.log());
        pause(50);
    }
    bed.deploy("needs_too", &["needy"]);
    let answer = bed.worker.call("needs_too", "{}");
    assert_eq!(
        answer.field("x-ol-zygote"),
        Some("ROOT"),
        "{}",
        answer.text()
    );
    bed.worker.until("a node is left out", |worker| {
        let log = worker.log();
        log.lines().any(|line| {
            line.contains("event=node-left-out") && line.contains("needy: it needs bad: its import")
        })
    });
    let listed = bed.worker.get("/packages").json();
    let why = |name: &str| {
        let mut packages = listed["packages"].as_array().unwrap().iter();
        let package = packages.find(|package| package["name"] == name).unwrap();
        package["unfit"].as_str().unwrap_or("").to_owned()
    };
    assert_eq!(why("good"), "");
    assert!(why("bad").contains("leaves 1 threads"), "{}", why("bad"));
    assert!(
        why("needy").starts_with("it needs bad: "),
        "{}",
        why("needy")
    );
}

/// What is wrong with each, and how it is found.
const TROUBLES: [(&str, &str, &str); 5] = [
    (
        "held",
        "import threading\nlock = threading.Lock()\nlock.acquire()\n",
        "the lock held.lock stays locked in a fork",
    ),
    (
        "picky",
        "import os\n__all__ = ['thing']\npid = os.getpid()\ndef __getattr__(name):\n    \
         if name != 'thing':\n        raise AttributeError(name)\n    \
         if os.getpid() != pid:\n        raise RuntimeError('another process')\n    return 1\n",
        "picky.thing does not work in a fork: RuntimeError: another process",
    ),
    (
        "filed",
        "file = open('/etc/passwd')\n",
        "its import leaves 1 files open",
    ),
    (
        "deadly",
        "import os\n__all__ = ['thing']\npid = os.getpid()\ndef __getattr__(name):\n    \
         if os.getpid() != pid:\n        os.abort()\n    raise AttributeError(name)\n",
        "a fork of an interpreter that has imported it dies",
    ),
    ("sound", "import threading\nlock = threading.RLock()\n", ""),
];

fn profiles_say_what_does_not_work_in_a_fork(back_end: &str) {
    let Some(mut bed) = Bed::new("troubles", back_end, &[], &[]) else {
        return;
    };
    for (name, code, _) in TROUBLES {
        let code = format!("{code}here = {name:?}\n");
        let file = format!("{name}.py");
        Wheel::new(name, "1.0", &[(&file, &code)]).write(&bed.wheels);
    }
    bed.deploy("all", &TROUBLES.map(|(name, ..)| name));
    bed.result("all");
    bed.worker.until("all are profiled", |worker| {
        let listed = worker.get("/packages").json();
        let mut packages = listed["packages"].as_array().unwrap().iter();
        packages.all(|package| package["profile"].is_object())
    });
    let listed = bed.worker.get("/packages").json();
    for package in listed["packages"].as_array().unwrap() {
        let trouble = TROUBLES.iter().find(|(name, ..)| package["name"] == *name);
        let (name, _, expected) = trouble.unwrap();
        let why = package["profile"]["why"].as_str().unwrap();
        assert!(why.starts_with(expected), "{name}: {why}");
        assert_eq!(why.is_empty(), expected.is_empty(), "{name}: {why}");
    }
}

on_both!(
    what_zygotes_cannot_import_is_left_to_instances,
    profiles_say_what_does_not_work_in_a_fork,
    fifty_at_once_fetch_each_package_once,
    a_set_is_installed_by_one_run,
    what_is_installed_together_is_kept_apart,
    directories_are_looked_at_before_an_index,
    what_is_installed_needs_no_index,
    nothing_half_installed_is_trusted,
    without_uv_pip_installs,
);
