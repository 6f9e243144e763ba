//! Where packages come from: what is configured, and for the rest what this machine says.
//!
//! ```text
//!   [packages] index_url, ...   over   UV_*   over   PIP_*   over   pip.conf
//! ```
//!
//! All of it reaches the installer by its environment, which only it can read: addresses may hold
//! passwords, and arguments are everybody's to see.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Of one pip.conf.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Directories with wheels that are mounted for the installer.
pub(super) const LINKS_MAX: usize = 16;
/// Where they are mounted.
pub(super) const LINKS: &str = "/host/links";
/// What packages end in.
const DISTRIBUTIONS: [&str; 3] = [".whl", ".tar.gz", ".zip"];
/// What uv and build tools read besides, handed on as it is.
const HANDED_ON: [&str; 21] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_DIR",
    "UV_INDEX_STRATEGY",
    "UV_KEYRING_PROVIDER",
    "UV_HTTP_RETRIES",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
    "UV_EXCLUDE_NEWER",
    "UV_PRERELEASE",
    "UV_RESOLUTION",
    "UV_CONCURRENT_DOWNLOADS",
    "UV_CONCURRENT_BUILDS",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_RETRIES",
];
const CERTIFICATES: [&str; 4] = [
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
];

/// What is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    pub index_url: Option<String>,
    pub extra_index_urls: Vec<String>,
    pub find_links: Vec<String>,
}

/// What the installer is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    index: Option<String>,
    extra: Vec<String>,
    /// Addresses of pages with wheels.
    pages: Vec<String>,
    /// Directories with wheels.
    pub(super) directories: Vec<PathBuf>,
    no_index: bool,
    trusted: Vec<String>,
    timeout: Option<String>,
    handed_on: Vec<(String, String)>,
    /// A file with certificates of authorities.
    pub(super) certificates: Option<PathBuf>,
}

/// Settings of pip, from its files and the environment: the last word counts.
struct Pip(BTreeMap<String, String>);

impl Pip {
    fn of(environment: &BTreeMap<String, String>) -> Self {
        let mut pip = Self(BTreeMap::new());
        let home = environment.get("HOME").map(PathBuf::from);
        let own = environment
            .get("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| home.as_ref().map(|home| home.join(".config")));
        let mut files = vec![
            PathBuf::from("/etc/xdg/pip/pip.conf"),
            "/etc/pip.conf".into(),
        ];
        files.extend(home.map(|home| home.join(".pip/pip.conf")));
        files.extend(own.map(|own| own.join("pip/pip.conf")));
        match environment.get("PIP_CONFIG_FILE").map(String::as_str) {
            Some("/dev/null") => files.clear(),
            Some(file) => files.push(file.into()),
            None => {}
        }
        for file in files {
            let is_small = fs::metadata(&file).is_ok_and(|found| found.len() <= FILE_BYTES_MAX);
            if is_small && let Ok(text) = fs::read_to_string(&file) {
                pip.read(&text);
            }
        }
        for (name, value) in environment {
            if let Some(name) = name.strip_prefix("PIP_") {
                let name = name.to_ascii_lowercase().replace('_', "-");
                pip.0.insert(name, value.clone());
            }
        }
        pip
    }

    /// `[global]` and `[install]`; a line that begins with a blank goes on with the one before.
    fn read(&mut self, text: &str) {
        let mut is_ours = false;
        let mut last: Option<String> = None;
        for line in text.lines() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            if let Some(section) = trimmed.strip_prefix('[') {
                is_ours = matches!(section.trim_end_matches(']'), "global" | "install");
                last = None;
            } else if line.starts_with([' ', '\t']) {
                if let Some(value) = last.as_ref().and_then(|key| self.0.get_mut(key)) {
                    value.push(' ');
                    value.push_str(trimmed);
                }
            } else if let Some((key, value)) = trimmed.split_once(['=', ':']).filter(|_| is_ours) {
                let key = key.trim().to_ascii_lowercase().replace('_', "-");
                self.0.insert(key.clone(), value.trim().to_owned());
                last = Some(key);
            }
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    fn list(&self, key: &str) -> Vec<String> {
        words(self.get(key).unwrap_or(""))
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn is_true(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "1" | "true" | "yes" | "on" | "y" | "t"
    )
}

impl Sources {
    /// Reads pip's files: blocks.
    pub fn of(wish: &Wish, environment: &BTreeMap<String, String>) -> Self {
        let pip = Pip::of(environment);
        let uv = |name: &str| {
            environment
                .get(name)
                .filter(|value| !value.is_empty())
                .cloned()
        };
        let index = wish.index_url.clone();
        let index = index
            .or_else(|| uv("UV_DEFAULT_INDEX"))
            .or_else(|| uv("UV_INDEX_URL"));
        let extra = [uv("UV_INDEX"), uv("UV_EXTRA_INDEX_URL")];
        let extra: Vec<String> = extra
            .iter()
            .flatten()
            .flat_map(|list| words(list))
            .collect();
        let links = uv("UV_FIND_LINKS").map(|list| list.split(',').map(str::to_owned).collect());
        let first = |lists: [Vec<String>; 3]| {
            lists
                .into_iter()
                .find(|list| !list.is_empty())
                .unwrap_or_default()
        };
        let links: Vec<String> = first([
            wish.find_links.clone(),
            links.unwrap_or_default(),
            pip.list("find-links"),
        ]);
        let no_index = uv("UV_NO_INDEX").or_else(|| pip.get("no-index").map(str::to_owned));
        let mut sources = Self {
            index: index.or_else(|| pip.get("index-url").map(str::to_owned)),
            extra: first([
                wish.extra_index_urls.clone(),
                extra,
                pip.list("extra-index-url"),
            ]),
            no_index: no_index.as_deref().is_some_and(is_true),
            trusted: first([
                uv("UV_INSECURE_HOST")
                    .map(|list| words(&list))
                    .unwrap_or_default(),
                pip.list("trusted-host"),
                Vec::new(),
            ]),
            timeout: uv("UV_HTTP_TIMEOUT").or_else(|| {
                pip.get("default-timeout")
                    .or(pip.get("timeout"))
                    .map(str::to_owned)
            }),
            handed_on: handed_on(environment, &pip),
            certificates: certificates(environment, &pip),
            ..Self::default()
        };
        for link in links {
            sources.add_link(&link);
        }
        sources
    }

    fn add_link(&mut self, link: &str) {
        let path = Path::new(link.strip_prefix("file://").unwrap_or(link));
        if path.is_absolute() {
            // One that is not there would be refused by the installer; one that holds nothing would
            // only be asked in vain.
            if holds_packages(path) && self.directories.len() < LINKS_MAX {
                self.directories.push(path.to_path_buf());
            }
        } else {
            self.pages.push(link.to_owned());
        }
    }

    /// Whether wheels can be found without any network.
    pub fn has_directories(&self) -> bool {
        !self.directories.is_empty()
    }

    /// Whether the installer is to be told `--no-index`: uv reads that from no variable.
    pub(super) fn asks_no_index(&self, links_only: bool) -> bool {
        links_only || self.no_index
    }

    /// The environment of the installer. `links_only`: nothing but the directories is looked at.
    pub(super) fn environment(&self, links_only: bool) -> Vec<(String, String)> {
        let mut all = self.handed_on.clone();
        let mut say = |name: &str, value: String| {
            if !value.is_empty() {
                all.push((name.to_owned(), value));
            }
        };
        let places = (0..self.directories.len()).map(|number| format!("{LINKS}/{number}"));
        let pages = self.pages.iter().filter(|_| !links_only).cloned();
        let links: Vec<String> = places.chain(pages).collect();
        say("UV_FIND_LINKS", links.join(","));
        say("PIP_FIND_LINKS", links.join(" "));
        if !self.asks_no_index(links_only) {
            say("UV_DEFAULT_INDEX", self.index.clone().unwrap_or_default());
            say("PIP_INDEX_URL", self.index.clone().unwrap_or_default());
            say("UV_INDEX", self.extra.join(" "));
            say("PIP_EXTRA_INDEX_URL", self.extra.join(" "));
        }
        say("UV_INSECURE_HOST", self.trusted.join(" "));
        say("PIP_TRUSTED_HOST", self.trusted.join(" "));
        say("UV_HTTP_TIMEOUT", self.timeout.clone().unwrap_or_default());
        all
    }
}

/// Whether anything that can be installed lies there. Blocks.
fn holds_packages(directory: &Path) -> bool {
    let Ok(found) = fs::read_dir(directory) else {
        return false;
    };
    let is_package = |name: &str| DISTRIBUTIONS.iter().any(|ending| name.ends_with(ending));
    found
        .flatten()
        .any(|found| found.file_name().to_str().is_some_and(is_package))
}

fn handed_on(environment: &BTreeMap<String, String>, pip: &Pip) -> Vec<(String, String)> {
    let is_login = |name: &str| {
        let ends = name.ends_with("_USERNAME") || name.ends_with("_PASSWORD");
        name.starts_with("UV_INDEX_") && ends
    };
    let mut all: Vec<(String, String)> = environment
        .iter()
        .filter(|(name, _)| HANDED_ON.contains(&name.as_str()) || is_login(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(proxy) = pip.get("proxy") {
        for name in ["HTTP_PROXY", "HTTPS_PROXY"] {
            if !all
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
            {
                all.push((name.to_owned(), proxy.to_owned()));
            }
        }
    }
    all
}

fn certificates(environment: &BTreeMap<String, String>, pip: &Pip) -> Option<PathBuf> {
    let named = CERTIFICATES
        .iter()
        .filter_map(|name| environment.get(*name).map(String::as_str));
    let mut paths = named.chain(pip.get("cert")).map(PathBuf::from);
    paths.find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = all
            .iter()
            .copied()
            .chain([("PIP_CONFIG_FILE", "/dev/null")]);
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn what_is_configured_wins_over_the_machine() {
        let told = environment(&[
            ("UV_INDEX_URL", "https://uv/"),
            ("PIP_INDEX_URL", "https://pip/"),
            ("PIP_EXTRA_INDEX_URL", "https://a/ https://b/"),
            ("HTTPS_PROXY", "http://proxy:1"),
        ]);
        let sources = Sources::of(&Wish::default(), &told);
        assert_eq!(sources.index.as_deref(), Some("https://uv/"));
        assert_eq!(sources.extra, ["https://a/", "https://b/"]);
        let links = std::env::temp_dir().join(format!("ol-links-{}", std::process::id()));
        let empty = links.join("empty");
        fs::create_dir_all(&empty).unwrap();
        fs::write(links.join("a-1-py3-none-any.whl"), "").unwrap();
        let find = [links.as_path(), &empty, Path::new("/nowhere/at/all")];
        let wish = Wish {
            index_url: Some("https://mine/".to_owned()),
            find_links: find.map(|path| path.display().to_string()).to_vec(),
            ..Wish::default()
        };
        let sources = Sources::of(&wish, &told);
        assert_eq!(sources.index.as_deref(), Some("https://mine/"));
        assert_eq!(sources.directories, std::slice::from_ref(&links));
        fs::remove_dir_all(links).unwrap();
        assert!(sources.asks_no_index(true) && !sources.asks_no_index(false));
        let said = |links_only, name: &str| {
            let all = sources.environment(links_only);
            all.into_iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value)
        };
        assert_eq!(
            said(false, "UV_DEFAULT_INDEX").as_deref(),
            Some("https://mine/")
        );
        assert_eq!(said(true, "UV_DEFAULT_INDEX"), None);
        assert_eq!(
            said(true, "UV_FIND_LINKS").as_deref(),
            Some("/host/links/0")
        );
        assert_eq!(said(true, "HTTPS_PROXY").as_deref(), Some("http://proxy:1"));
    }

    #[test]
    fn files_of_pip_are_read() {
        let mut pip = Pip(BTreeMap::new());
        pip.read(
            "# c\n[global]\nindex-url = https://i/\nextra_index_url: https://a/\n  https://b/\n\
             [list]\nindex-url = no\n[install]\nno-index = true\n",
        );
        assert_eq!(pip.get("index-url"), Some("https://i/"));
        assert_eq!(pip.list("extra-index-url"), ["https://a/", "https://b/"]);
        assert!(pip.get("no-index").is_some_and(is_true));
    }
}
