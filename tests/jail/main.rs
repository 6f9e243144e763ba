//! What a sandbox is, looked at from inside by small programs, and how it ends.

mod death;
mod inside;
mod rig;
mod zygotes;

use rig::{Outcome, rig};

#[test]
fn a_forked_instance_answers() {
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&["json"]);
    let mut instance = rig.fork(&mut zygote, "def f(event): return [event, 1]");
    assert_eq!(
        instance.call("\"hello\""),
        Outcome::Answer("[\"hello\", 1]".into())
    );
    rig.end(instance);
    rig.end_zygote(zygote);
}

#[test]
fn a_fresh_interpreter_answers() {
    let Some(mut rig) = rig() else { return };
    let mut instance = rig.fresh("def f(event): return event");
    assert_eq!(
        instance.call("7"),
        Outcome::Answer("7".into()),
        "{}",
        rig.log()
    );
    rig.end(instance);
}

#[test]
fn a_zygote_forked_from_another_serves() {
    let Some(mut rig) = rig() else { return };
    let mut root = rig.zygote(&["json"]);
    let mut child = rig.child(&mut root, &["decimal"]);
    assert_eq!(child.threads, 1);
    assert!(child.resident_kb > 0);
    // A zygote's death is not its children's.
    rig.end_zygote(root);
    let mut instance = rig.fork(
        &mut child,
        "import sys\ndef f(event): return 'decimal' in sys.modules",
    );
    assert_eq!(instance.call("0"), Outcome::Answer("true".into()));
    rig.end_zygote(child);
    assert_eq!(instance.call("0"), Outcome::Answer("true".into()));
    rig.end(instance);
}
