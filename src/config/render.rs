//! A configuration as a file: every key, its value, what it does and what else it may be.
//!
//! The shipped file and those of directory workers are written here, from the table that also reads
//! them: what is rendered is read back as the same configuration.

use super::key::{Key, Kind, Reload};
use super::keys::{KEYS, SECTIONS};
use super::meaning::{Config, Home, Machine};
use std::fmt::Write as _;

/// Where comments are broken.
const COLUMNS: usize = 98;

/// Every key and its value, commented.
pub fn toml(config: &Config, opening: &str) -> String {
    let mut config = config.clone();
    let mut out = String::new();
    comment(&mut out, opening);
    for (section, about) in SECTIONS {
        out.push('\n');
        comment(&mut out, about);
        writeln!(out, "[{section}]").expect("a string takes everything");
        for key in KEYS.iter().filter(|key| key.section() == *section) {
            entry(&mut out, key, &mut config);
        }
    }
    out
}

/// The file that is installed below /etc: the defaults, whatever the machine.
pub fn shipped() -> String {
    let config = Config::defaults(Home::installed(), Machine::UNKNOWN);
    toml(
        &config,
        "The configuration of olworker: every key with its default. \
         Changes are better kept in files below olworker.toml.d/, read in the order of their \
         names behind this one. `olworker check` tells what is wrong with it, `systemctl reload \
         olworker` takes what can be taken at once; man olworker.toml says more.",
    )
}

fn entry(out: &mut String, key: &Key, config: &mut Config) {
    out.push('\n');
    let restart = match key.reload {
        Reload::AtOnce => "",
        Reload::Restart => " Taken at start.",
    };
    let range = match key.kind {
        Kind::Flag(_) => String::new(),
        _ => format!(" [{}]", key.range()),
    };
    comment(out, &format!("{}{range}{restart}", key.about));
    let value = key.get(config).to_toml();
    writeln!(out, "{} = {value}", key.leaf()).expect("a string takes everything");
}

/// Words behind `# `, in lines of bounded width.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            out.push_str(&line);
            out.push('\n');
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::read::{SourceFile, Sources, read};
    use super::*;
    use std::path::{Path, PathBuf};

    fn read_back(text: String, config: &Config, machine: Machine) -> Config {
        let path = config.home.configuration.join("config.toml");
        let sources = Sources {
            files: vec![SourceFile { path, text }],
            ..Sources::default()
        };
        match read(&sources, config.home.clone(), machine) {
            Ok(loaded) => loaded.config,
            Err(problems) => panic!("{}", problems[0]),
        }
    }

    #[test]
    fn the_shipped_file_equals_the_defaults() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/olworker/olworker.toml");
        if std::env::var_os("OLWORKER_WRITE").is_some() {
            std::fs::write(&file, shipped()).expect("the source tree can be written");
        }
        let present = std::fs::read_to_string(&file).expect("it is shipped");
        assert!(
            present == shipped(),
            "etc/olworker/olworker.toml differs from the built-in defaults \
             (OLWORKER_WRITE=1 cargo test the_shipped_file writes it)"
        );
        let machine = Machine {
            ram_bytes: 8 << 30,
            cpus: 2,
        };
        let defaults = Config::defaults(Home::installed(), machine);
        assert_eq!(read_back(present, &defaults, machine), defaults);
    }

    #[test]
    fn a_directory_worker_is_read_back() {
        let machine = Machine {
            ram_bytes: 8 << 30,
            cpus: 2,
        };
        let home = Home::directory(&PathBuf::from("/srv/a \"worker\"/é"));
        let config = Config::defaults(home, machine);
        assert_eq!(
            read_back(toml(&config, "a worker"), &config, machine),
            config
        );
    }

    #[test]
    fn lines_are_of_bounded_width() {
        for line in shipped().lines() {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
    }
}
