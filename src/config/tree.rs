//! Zygote trees as files: `{"packages": [...], "children": [...]}`, read, checked, written back.
//!
//! This is the tree as people and fitters write it. Names are normalised (PEP 503), the order of
//! packages and children is kept, keys that mean nothing to us (`split_generation`, `benefit`)
//! are kept as they are and ignored. The root holds no packages. A tree is finite by its form;
//! depth and nodes are bounded by what the policy takes, so `shape` always succeeds.

use super::problem::quoted;
use crate::base::Package;
use crate::policy::tree::{self as shape, DEPTH_MAX, NODES_MAX, NodeId};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// Packages of one node.
pub const NODE_PACKAGES_MAX: usize = 256;
/// Bytes of a tree file.
pub const FILE_BYTES_MAX: u64 = 16 << 20;
/// Problems told of one tree; a file with more is wrong as a whole.
const PROBLEMS_MAX: usize = 20;

#[derive(Clone, PartialEq, Debug)]
pub struct Tree {
    pub root: Node,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Node {
    /// What this node imports itself, in order; what it inherits is its ancestors'.
    pub packages: Vec<Package>,
    pub children: Vec<Node>,
    /// Keys of the file that are not ours.
    pub other: Map<String, Value>,
}

/// What is wrong, where in the tree, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// `children[0].children[2]`; empty: the root.
    pub node: String,
    pub why: String,
    pub remedy: String,
}

impl Wrong {
    pub fn node_name(&self) -> &str {
        if self.node.is_empty() {
            "the root"
        } else {
            &self.node
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.node_name(), self.why, self.remedy)
    }
}

impl Tree {
    /// A root and nothing else: zygotes of the bare interpreter.
    pub fn bare() -> Self {
        Self {
            root: Node::default(),
        }
    }

    pub fn from_json(text: &str) -> Result<Self, Vec<Wrong>> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            vec![Wrong {
                node: String::new(),
                why: format!("no JSON: {error}"),
                remedy: r#"write {"packages": [], "children": [...]}"#.to_owned(),
            }]
        })?;
        Self::from_value(value)
    }

    pub fn from_value(value: Value) -> Result<Self, Vec<Wrong>> {
        let mut reading = Reading {
            wrong: Vec::new(),
            nodes: 0,
            path: Vec::new(),
            pinned: BTreeMap::new(),
        };
        let root = reading.node(value);
        match root {
            Some(root) if reading.wrong.is_empty() => Ok(Self { root }),
            _ => Err(reading.wrong),
        }
    }

    /// The tree as a value, its foreign keys behind ours.
    pub fn to_value(&self) -> Value {
        self.root.to_value()
    }

    /// One line, as it stands in a configuration.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    /// Indented, as it stands in a file of its own.
    pub fn to_json_pretty(&self) -> String {
        format!("{:#}\n", self.to_value())
    }

    /// Nodes, the root included.
    pub fn count(&self) -> usize {
        self.root.count()
    }

    /// The tree as the policies know it: numbered nodes, parents first, foreign keys left out.
    pub fn shape(&self) -> shape::Tree {
        let mut shape = shape::Tree::new();
        let mut rest: Vec<(NodeId, &Node)> = vec![(NodeId::ROOT, &self.root)];
        while let Some((id, node)) = rest.pop() {
            let ids: Vec<NodeId> = node
                .children
                .iter()
                .map(|child| {
                    let added = shape.add(id, child.packages.clone());
                    added.expect("reading bounds nodes and depth alike")
                })
                .collect();
            rest.extend(ids.into_iter().zip(&node.children).rev());
        }
        shape
    }

    /// Whether there is nothing but the root.
    pub fn is_bare(&self) -> bool {
        self.root.children.is_empty()
    }
}

impl Node {
    fn count(&self) -> usize {
        1 + self.children.iter().map(Self::count).sum::<usize>()
    }

    fn to_value(&self) -> Value {
        let packages = self
            .packages
            .iter()
            .map(|package| Value::String(package.to_string()));
        let children = self.children.iter().map(Self::to_value);
        let mut map = Map::new();
        map.insert("packages".to_owned(), packages.collect());
        map.insert("children".to_owned(), children.collect());
        map.extend(self.other.clone());
        Value::Object(map)
    }
}

/// `name` or `name==version`, or what is wrong with it.
fn package(text: &str) -> Result<Package, String> {
    let (name, version) = match text.split_once("==") {
        Some((name, version)) => (name.trim(), Some(version.trim())),
        None => (text.trim(), None),
    };
    if !is_name(name) {
        return Err(format!("{} is no package name", quoted(text)));
    }
    if !version.is_none_or(is_version) {
        return Err(format!("{} has no exact version behind ==", quoted(text)));
    }
    Ok(Package::parse(text))
}

fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
}

fn is_version(version: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b".+!_-".contains(&byte);
    !version.is_empty() && version.bytes().all(inner)
}

/// One walk over a tree: where it is, and what it found wrong.
struct Reading {
    wrong: Vec<Wrong>,
    nodes: usize,
    /// Index of each node on the way down among its parent's children.
    path: Vec<usize>,
    /// The version of each package that has one on the way down.
    pinned: BTreeMap<String, String>,
}

impl Reading {
    fn complain(&mut self, why: impl Into<String>, remedy: &str) {
        if self.wrong.len() < PROBLEMS_MAX {
            let steps = self.path.iter().map(|index| format!("children[{index}]"));
            self.wrong.push(Wrong {
                node: steps.collect::<Vec<_>>().join("."),
                why: why.into(),
                remedy: remedy.to_owned(),
            });
        }
    }

    /// `None` after a complaint that leaves nothing to go on with.
    fn node(&mut self, value: Value) -> Option<Node> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            if self.nodes == NODES_MAX + 1 {
                self.complain(format!("more than {NODES_MAX} nodes"), "fit a smaller tree");
            }
            return None;
        }
        let Value::Object(mut map) = value else {
            self.complain(
                format!("a node is an object, not {}", kind(&value)),
                r#"write {"packages": [...], "children": [...]}"#,
            );
            return None;
        };
        let is_root = self.path.is_empty();
        let packages = match map.remove("packages") {
            Some(Value::Null) => Vec::new(),
            Some(value) => self.packages(value),
            None if is_root => Vec::new(),
            None => {
                self.complain("a node without packages", r#"add "packages": [...]"#);
                Vec::new()
            }
        };
        if is_root && !packages.is_empty() {
            self.complain("it holds packages", "move them into a child of the root");
        }
        let pinned_here = self.pin(&packages);
        let children = match map.remove("children") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(values)) => self.children(values),
            Some(value) => {
                let why = format!("\"children\" is a list, not {}", kind(&value));
                self.complain(why, r#"write "children": [...]"#);
                Vec::new()
            }
        };
        for name in pinned_here {
            self.pinned.remove(&name);
        }
        Some(Node {
            packages,
            children,
            other: map,
        })
    }

    /// Notes the versions that this node adds to its path; answers whose to forget behind it.
    fn pin(&mut self, packages: &[Package]) -> Vec<String> {
        let mut added = Vec::new();
        for package in packages {
            if let Some(version) = package.version()
                && !self.pinned.contains_key(package.name())
            {
                self.pinned
                    .insert(package.name().to_owned(), version.to_owned());
                added.push(package.name().to_owned());
            }
        }
        added
    }

    /// The other version of this package on the path, which no function can have asked for too.
    fn rival<'a>(&'a self, package: &Package, here: &'a [Package]) -> Option<&'a str> {
        let version = package.version()?;
        let here = here.iter().filter(|other| other.name() == package.name());
        let here = here.filter_map(Package::version);
        let above = self.pinned.get(package.name()).map(String::as_str);
        above
            .into_iter()
            .chain(here)
            .find(|other| *other != version)
    }

    fn children(&mut self, values: Vec<Value>) -> Vec<Node> {
        if !values.is_empty() && self.path.len() == DEPTH_MAX {
            self.complain(
                format!("deeper than {DEPTH_MAX} levels"),
                "join levels: one node may hold several packages",
            );
            return Vec::new();
        }
        let mut children = Vec::with_capacity(values.len().min(NODES_MAX));
        for (index, value) in values.into_iter().enumerate() {
            self.path.push(index);
            children.extend(self.node(value));
            self.path.pop();
        }
        children
    }

    fn packages(&mut self, value: Value) -> Vec<Package> {
        let Value::Array(values) = value else {
            let why = format!("\"packages\" is a list, not {}", kind(&value));
            self.complain(why, r#"write "packages": ["numpy", "pandas==2.2.3"]"#);
            return Vec::new();
        };
        if values.len() > NODE_PACKAGES_MAX {
            self.complain(
                format!("{} packages in one node", values.len()),
                &format!("at most {NODE_PACKAGES_MAX}: split it"),
            );
            return Vec::new();
        }
        let mut packages: Vec<Package> = Vec::with_capacity(values.len());
        for value in values {
            let Value::String(text) = &value else {
                let why = format!("a package is a string, not {}", kind(&value));
                self.complain(why, r#"write "numpy" or "numpy==1.26.4""#);
                continue;
            };
            let package = match package(text) {
                Ok(package) => package,
                Err(why) => {
                    self.complain(why, "write a name, or name==version");
                    continue;
                }
            };
            if let Some(version) = self.rival(&package, &packages) {
                let why = format!("{package} on one path with {}=={version}", package.name());
                self.complain(why, "no function asks for both: make them siblings");
            } else if !packages.contains(&package) {
                packages.push(package);
            }
        }
        packages
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<String> {
        let wrong = Tree::from_json(text).expect_err("the tree is wrong");
        wrong.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_are_normalised_and_foreign_keys_kept() {
        let text = r#"{"packages": [], "split_generation": 3, "children": [
            {"packages": ["Ruamel.YAML", "numpy == 1.26.4"], "children": null, "benefit": 1.5}]}"#;
        let tree = Tree::from_json(text).unwrap();
        let child = &tree.root.children[0];
        assert_eq!(child.packages[0].to_string(), "ruamel-yaml");
        assert_eq!(child.packages[1].to_string(), "numpy==1.26.4");
        assert_eq!(child.other["benefit"], Value::from(1.5));
        assert_eq!(Tree::from_json(&tree.to_json()).unwrap(), tree);
        assert_eq!(Tree::from_json(&tree.to_json_pretty()).unwrap(), tree);
        assert_eq!(tree.count(), 2);
    }

    #[test]
    fn order_is_kept() {
        let text = r#"{"packages":[],"children":[{"packages":["b","a"],"children":[]},
            {"packages":["a"],"children":[]}]}"#;
        let tree = Tree::from_json(text).unwrap();
        assert_eq!(tree.to_json(), text.replace(['\n', ' '], ""));
    }

    #[test]
    fn the_shape_has_the_same_nodes_in_the_same_order() {
        let text = r#"{"children": [
            {"packages": ["a"], "children": [{"packages": ["b", "c"]}, {"packages": ["d"]}]},
            {"packages": ["e"]}]}"#;
        let shape = Tree::from_json(text).unwrap().shape();
        let told = |id: NodeId| {
            let node = shape.get(id).unwrap();
            let children = node.children.iter();
            let packages = children.map(|child| format!("{:?}", shape.node(*child).packages));
            packages.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shape.len(), 5);
        assert_eq!(told(NodeId::ROOT), "[a] [e]");
        assert_eq!(told(shape.node(NodeId::ROOT).children[0]), "[b, c] [d]");
    }

    #[test]
    fn each_problem_names_its_node() {
        let text = r#"{"packages": ["x"], "children": [
            {"packages": ["numpy==1"], "children": [{"packages": ["numpy==2", 7, "-"]}]},
            {"children": {}}, 5]}"#;
        assert_eq!(
            wrong(text),
            [
                "the root: it holds packages (move them into a child of the root)",
                "children[0].children[0]: numpy==2 on one path with numpy==1 \
                 (no function asks for both: make them siblings)",
                "children[0].children[0]: a package is a string, not a number \
                 (write \"numpy\" or \"numpy==1.26.4\")",
                "children[0].children[0]: \"-\" is no package name \
                 (write a name, or name==version)",
                "children[1]: a node without packages (add \"packages\": [...])",
                "children[1]: \"children\" is a list, not an object (write \"children\": [...])",
                "children[2]: a node is an object, not a number \
                 (write {\"packages\": [...], \"children\": [...]})",
            ]
        );
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |levels: usize| {
            let open = r#"{"packages":[],"children":["#.repeat(levels);
            format!("{open}{{\"packages\":[]}}{}", "]}".repeat(levels))
        };
        assert!(Tree::from_json(&nested(DEPTH_MAX)).is_ok());
        let deep = wrong(&nested(DEPTH_MAX + 1));
        assert!(deep[0].contains("deeper than 30 levels"), "{deep:?}");
        let deeper = wrong(&nested(10_000));
        assert!(deeper[0].contains("recursion limit"), "{deeper:?}");

        let leaves = vec![r#"{"packages":["a"]}"#; NODES_MAX].join(",");
        let wide = wrong(&format!(r#"{{"children":[{leaves}]}}"#));
        assert_eq!(wide.len(), 1);
        assert!(wide[0].contains("more than 4096 nodes"), "{wide:?}");
    }

    #[test]
    fn what_is_no_tree_is_said() {
        assert!(wrong("")[0].starts_with("the root: no JSON: EOF"));
        assert!(wrong("[]")[0].contains("a node is an object, not a list"));
        assert!(wrong(r#"{"packages": "numpy"}"#)[0].contains("is a list, not a string"));
    }
}
