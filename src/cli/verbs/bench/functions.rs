//! The functions that `ol bench init` makes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Before their numbers.
pub const PY: &str = "bench-py-";
pub const PD: &str = "bench-pd-";
pub const TREE: &str = "bench-tree-";

/// Returns the number in its own name: so 65,536 functions are one content.
pub const PY_CODE: &str = "\
number = None


def f(event, context):
    global number
    if number is None:
        number = int(context.function_name.rpartition(\"-\")[2])
    return number
";

/// numpy and pandas: a frame made once, the correlation of two of its columns for each call.
pub const PD_CODE: &str = "\
# ol-install: numpy,pandas
import random

import numpy
import pandas

FRAME = pandas.DataFrame(numpy.random.random((1000, 10)))


def f(event):
    first, second = random.sample(range(10), 2)
    return float(FRAME[first].corr(FRAME[second]))
";

/// A function that only imports.
pub fn importing(picks: &[&super::experiment::Package]) -> String {
    let requirements: Vec<&str> = picks.iter().map(|pick| pick.requirement.as_str()).collect();
    let mut code = format!("# ol-install: {}\n", requirements.join(","));
    let modules: BTreeSet<&String> = picks.iter().flat_map(|pick| &pick.modules).collect();
    for module in modules {
        writeln!(code, "import {module}").expect("a string takes everything");
    }
    code.push_str("\n\ndef f(event):\n    return None\n");
    code
}

#[cfg(test)]
mod tests {
    use super::super::experiment::parse;
    use super::*;

    #[test]
    fn an_importing_function_is_plain() {
        let packages = parse("pyyaml==6.0: yaml\nnumpy\n").expect("a list");
        let picks: Vec<_> = packages.iter().collect();
        assert_eq!(
            importing(&picks),
            "# ol-install: pyyaml==6.0,numpy\nimport numpy\nimport yaml\n\n\n\
             def f(event):\n    return None\n"
        );
    }
}
