//! Packages end to end: wheels made here, installed by a real installer, imported by functions.

use super::on_both;
use super::rig::{Worker, worker};
use super::wheels::{COMPILER, Wheel, directory, missing_compiler, write_source};
use std::fs;
use std::path::{Path, PathBuf};

/// Nobody listens there: what is not in the directory is nowhere.
const NO_INDEX: &str = "packages.index_url=http://127.0.0.1:9/simple";

/// A worker whose packages come from a directory of wheels.
pub struct Bed {
    pub worker: Worker,
    pub wheels: PathBuf,
}

impl Bed {
    pub fn new(name: &str, back_end: &str, overrides: &[&str]) -> Option<Self> {
        let wheels = directory(&format!("{name}-{back_end}"));
        fs::create_dir_all(&wheels).unwrap();
        let links = format!("packages.find_links=[{:?}]", wheels.display().to_string());
        let all: Vec<&str> = [NO_INDEX, &links]
            .into_iter()
            .chain(overrides.iter().copied())
            .collect();
        let worker = worker(back_end, &all)?;
        Some(Self { worker, wheels })
    }

    pub fn deploy(&self, name: &str, asked: &str, code: &str) {
        self.worker
            .deploy(name, &format!("# ol-install: {asked}\n{code}"));
    }

    /// What a function that needs nothing but these returns for `{}`.
    fn result(&self, name: &str) -> serde_json::Value {
        let answer = self.worker.call(name, "{}");
        assert_eq!(
            answer.status,
            200,
            "{name}: {} {}",
            answer.text(),
            self.worker.log()
        );
        answer.json()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.wheels);
    }
}

fn alpha(wheels: &Path, version: &str) -> String {
    let code = format!("version = {version:?}\n");
    Wheel::new(
        "alpha",
        version,
        &[("alpha/__init__.py", &code), ("alpha/deep.py", &code)],
    )
    .write(wheels)
}

fn an_application_may_come_from_a_package(back_end: &str) {
    let Some(bed) = Bed::new("brought", back_end, &[]) else {
        return;
    };
    let code = "def app(environ, start_response):\n    start_response('200 OK', [])\n    \
                return [b'from the package']\n";
    let files = [
        ("site_of_alpha/__init__.py", ""),
        ("site_of_alpha/web.py", code),
    ];
    Wheel::new("alpha", "1.0", &files).write(&bed.wheels);
    let settings = |module: &str| format!("[environment]\nOL_WSGI_ENTRY = \"{module}:app\"\n");
    let put = |name: &str, module: &str, asked: &str| {
        let settings = settings(module);
        let files = [("ol.toml", settings.as_str()), ("requirements.txt", asked)];
        bed.worker.put_directory(name, &files);
        bed.worker.call(name, "")
    };
    let answer = put("good", "site_of_alpha.web", "alpha\n");
    assert_eq!(answer.text(), "from the package", "{}", bed.worker.log());
    // Nobody brings it: at once where that is certain, else with the first call.
    let answer = put("bad", "site_of_alpha.web", "# nothing\n");
    assert_eq!(answer.code(), "bad-function", "{}", answer.text());
    assert!(
        answer.text().contains("could bring site_of_alpha.web"),
        "{}",
        answer.text()
    );
    let answer = put("other", "site_of_beta.web", "alpha\n");
    assert_eq!(answer.code(), "import-failed", "{}", answer.text());
    assert!(answer.text().contains("site_of_beta"), "{}", answer.text());
}

const ALPHA: &str = "import alpha\ndef f(event):\n    import alpha.deep\n    \
                     return [alpha.version, alpha.deep.version]\n";

fn versions_live_side_by_side(back_end: &str) {
    let tree =
        r#"features.import_cache_tree='{"packages": [], "children": [{"packages": ["alpha"]}]}'"#;
    let Some(mut bed) = Bed::new("versions", back_end, &[tree]) else {
        return;
    };
    alpha(&bed.wheels, "1.0");
    alpha(&bed.wheels, "2.0");
    bed.deploy("one", "alpha==1.0", ALPHA);
    bed.deploy("two", "alpha>=2", ALPHA);
    assert_eq!(bed.result("one"), serde_json::json!(["1.0", "1.0"]));
    // The node has the version of the function that wanted it first.
    bed.worker.until("a zygote has imported it", |worker| {
        worker.get("/tree").text().matches("live").count() >= 2
    });
    assert_eq!(bed.result("two"), serde_json::json!(["2.0", "2.0"]));
    for (name, asked, version, node) in [
        ("again", "alpha==1.0", "1.0", "alpha"),
        ("other", "alpha==2.0", "2.0", "ROOT"),
    ] {
        bed.deploy(name, asked, ALPHA);
        let answer = bed.worker.call(name, "{}");
        assert_eq!(answer.json(), serde_json::json!([version, version]));
        assert_eq!(
            answer.field("x-ol-zygote"),
            Some(node),
            "{name}: {}",
            bed.worker.log()
        );
    }
}

fn only_what_was_asked_for_can_be_imported(back_end: &str) {
    let Some(bed) = Bed::new("closure", back_end, &[]) else {
        return;
    };
    alpha(&bed.wheels, "1.0");
    let data = [
        ("beta/__init__.py", "import alpha\n"),
        ("beta/data.txt", "some data"),
        ("room/beta.py", "where = 'beta'\n"),
        (
            "beta_path.pth",
            "beta_extra\nimport sys; sys.beta_was_here = True\n",
        ),
        ("beta_extra/beside.py", "found = True\n"),
    ];
    let beta = Wheel {
        requires: &["alpha>=1", "gamma; extra == 'more'"],
        entry_points: "[beta.plugins]\nmine = beta:alpha\n",
        ..Wheel::new("beta", "1.0", &data)
    };
    beta.write(&bed.wheels);
    Wheel::new(
        "gamma",
        "1.0",
        &[("room/gamma.py", "where = 'gamma'\n"), ("gamma.py", "")],
    )
    .write(&bed.wheels);
    let code = "
import importlib.metadata, importlib.resources, sys
import beta, beside, room.beta
def f(event):
    missing = []
    for name in ('gamma', 'room.gamma', 'pip', 'setuptools'):
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    entries = importlib.metadata.entry_points()
    if hasattr(entries, 'select'):
        group = entries.select(group='beta.plugins')
    else:
        group = entries['beta.plugins']
    return [
        missing, importlib.metadata.version('alpha'),
        importlib.resources.read_text('beta', 'data.txt'),
        [entry.name for entry in group], sys.beta_was_here, beside.found, room.beta.where,
        sorted(found.metadata['Name'] for found in importlib.metadata.distributions()),
    ]
";
    bed.deploy("narrow", "beta", code);
    let told = serde_json::json!([
        ["gamma", "room.gamma", "pip", "setuptools"],
        "1.0",
        "some data",
        ["mine"],
        true,
        true,
        "beta",
        ["alpha", "beta"]
    ]);
    assert_eq!(bed.result("narrow"), told);
    bed.deploy("wide", "beta[more]", code);
    assert_eq!(
        bed.result("wide")[0],
        serde_json::json!(["pip", "setuptools"])
    );
    bed.worker
        .deploy("bare", "def f(event):\n    import alpha\n");
    assert_eq!(bed.worker.call("bare", "{}").code(), "function-error");
}

fn what_cannot_be_installed_says_why(back_end: &str) {
    let Some(bed) = Bed::new("failures", back_end, &[]) else {
        return;
    };
    let right = alpha(&bed.wheels, "1.0");
    let liar = Wheel {
        lies_about: Some("liar.py"),
        ..Wheel::new("liar", "1.0", &[("liar.py", "x = 1\n")])
    };
    liar.write(&bed.wheels);
    let wants = Wheel {
        requires: &["alpha>=2"],
        ..Wheel::new("wants", "1.0", &[("wants.py", "")])
    };
    wants.write(&bed.wheels);
    write_source(&bed.wheels, "native", &missing_compiler());
    for (name, requirements) in [
        ("compiler", "native".to_owned()),
        ("nowhere", "no-such-package-of-ours".to_owned()),
        ("conflict", "alpha==1.0\nwants".to_owned()),
        ("tampered", "liar".to_owned()),
        (
            "hash",
            format!("alpha==1.0 --hash=sha256:{}", "0".repeat(64)),
        ),
    ] {
        let code = "def f(event):\n    return 1\n";
        bed.worker
            .put_directory(name, &[("f.py", code), ("requirements.txt", &requirements)]);
        let answer = bed.worker.call(name, "{}");
        assert_eq!(
            (answer.status, answer.code()),
            (500, "install-failed".to_owned()),
            "{name}"
        );
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        let package = requirements.split(['=', '\n']).next().unwrap();
        assert!(
            detail.contains(package) || detail.contains("127.0.0.1"),
            "{name}: {detail}"
        );
        if name == "compiler" {
            assert!(detail.contains(COMPILER), "{detail}");
            assert!(detail.contains("has a wheel"), "what to do: {detail}");
        }
        // Remembered: no installer is asked again at once.
        assert_eq!(bed.worker.call(name, "{}").code(), "install-failed");
    }
    let hashed = format!("alpha==1.0 \\\n    --hash=sha256:{right}\n");
    bed.worker
        .put_directory("hashed", &[("f.py", ALPHA), ("requirements.txt", &hashed)]);
    assert_eq!(bed.result("hashed")[0], "1.0");
    for asked in [
        "../../x",
        "alpha @ https://u:secret@example.org/a.whl",
        "-e .",
        "alpha==",
    ] {
        let code = format!("# ol-install: {asked}\ndef f(event):\n    return 1\n");
        let answer = bed.worker.ask("PUT", "/registry/bad", "", code.as_bytes());
        assert_eq!(
            (answer.status, answer.code()),
            (422, "bad-function".to_owned()),
            "{asked}"
        );
        assert!(!answer.text().contains("secret"), "{}", answer.text());
    }
}

fn a_build_that_writes_too_much_is_ended(back_end: &str) {
    let limits = [
        "packages.installer_disk_mb=64",
        "packages.installer_sec=120",
    ];
    let Some(bed) = Bed::new("greedy", back_end, &limits) else {
        return;
    };
    // It would stay within every other limit.
    let build = "for number in range(200):\n        \
                     with open(f'large{number}', 'wb') as file:\n            \
                         file.write(bytes(1 << 20))\n    \
                 time.sleep(1000)";
    write_source(&bed.wheels, "greedy", build);
    alpha(&bed.wheels, "1.0");
    bed.deploy("greedy", "greedy, alpha", "def f(event):\n    return 1\n");
    let answer = bed.worker.call("greedy", "{}");
    assert_eq!(answer.code(), "install-failed", "{}", answer.text());
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    let why = "greedy==1.0: it wrote more than 64 MB ([packages] installer_disk_mb)";
    assert!(detail.contains(why), "{detail}");
    // Others have room.
    bed.deploy("modest", "alpha", ALPHA);
    assert_eq!(bed.result("modest")[0], "1.0");
}

fn many_at_once_share_what_they_need(back_end: &str) {
    const FUNCTIONS: usize = 12;
    let Some(mut bed) = Bed::new("many", back_end, &[]) else {
        return;
    };
    for version in ["1.0", "2.0"] {
        alpha(&bed.wheels, version);
    }
    for number in 0..FUNCTIONS {
        let name = format!("part{number}");
        let file = format!("{name}.py");
        let files = [(file.as_str(), "")];
        let part = Wheel {
            requires: &["alpha"],
            ..Wheel::new(&name, "1.0", &files)
        };
        part.write(&bed.wheels);
    }
    for number in 0..FUNCTIONS {
        let asked = format!("part{number}, part{}", (number + 1) % FUNCTIONS);
        bed.deploy(&format!("f{number}"), &asked, ALPHA);
    }
    for number in 0..FUNCTIONS {
        assert_eq!(bed.result(&format!("f{number}"))[0], "2.0");
    }
    let listed = bed.worker.get("/packages").json();
    assert_eq!(listed["packages"].as_array().unwrap().len(), FUNCTIONS + 1);
    // Nobody waits for what is measured behind them.
    bed.worker.until("each package is profiled", |worker| {
        let listed = worker.get("/packages").json();
        let packages = listed["packages"].as_array().unwrap();
        packages
            .iter()
            .all(|package| package["profile"]["why"] == "")
    });
    let order = br#"{"remove": ["alpha"]}"#;
    let answer = bed.worker.ask("POST", "/packages", "", order);
    assert!(
        answer.status >= 400 && answer.text().contains("in use"),
        "{}",
        answer.text()
    );
}

on_both!(
    versions_live_side_by_side,
    an_application_may_come_from_a_package,
    only_what_was_asked_for_can_be_imported,
    what_cannot_be_installed_says_why,
    a_build_that_writes_too_much_is_ended,
    many_at_once_share_what_they_need,
);
