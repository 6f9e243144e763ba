//! A plan as a tree file: the same keys as every tree has, packages as the trace spells them.

use crate::policy::fit::Plan;
use serde_json::{Value, json};

/// The tree as a value. Depth is bounded by what a plan may have.
pub fn value(plan: &Plan, spellings: &[String]) -> Value {
    node(plan, spellings, 0)
}

fn node(plan: &Plan, spellings: &[String], at: usize) -> Value {
    let shape = &plan.nodes[at];
    let packages: Vec<&str> = shape
        .own
        .iter()
        .map(|item| spellings[item].as_str())
        .collect();
    let children: Vec<Value> = shape
        .children
        .iter()
        .map(|child| node(plan, spellings, *child))
        .collect();
    json!({"packages": packages, "children": children})
}

/// As it stands in a file.
pub fn text(plan: &Plan, spellings: &[String]) -> String {
    format!("{:#}\n", value(plan, spellings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::Tree;
    use crate::policy::fit::{Catalog, Item, ItemSet};

    #[test]
    fn a_plan_is_written_as_a_tree_that_is_read_back() {
        let item = |family| Item {
            import_ms: 10.0 * f64::from(family + 1),
            mem_mb: 1.0,
            family,
            closures: Vec::new(),
        };
        let catalog = Catalog {
            items: (0..3).map(item).collect(),
        };
        let set = |items: &[u32]| ItemSet::of(3, items.iter().copied());
        let plan = Plan::from_sets(&catalog, &[set(&[1]), set(&[0, 1, 2])]);
        let spellings = ["PyYAML==6.0", "numpy==1.26.4", "pandas"].map(str::to_owned);
        let text = text(&plan, &spellings);
        assert_eq!(
            text.replace(['\n', ' '], ""),
            r#"{"packages":[],"children":[{"packages":["numpy==1.26.4"],"children":[{"packages":["#
                .to_owned()
                + r#""PyYAML==6.0","pandas"],"children":[]}]}]}"#
        );
        let tree = Tree::from_json(&text).expect("a tree");
        assert_eq!(tree.count(), plan.len());
    }
}
