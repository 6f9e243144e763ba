//! What holds for every policy, and the formulas.

use super::*;

const THING: Thing = Thing {
    rebuild: Duration::from_millis(100),
    memory: Bytes::from_mb(10),
    level: 1,
    last_use: Time::from_millis(5_000),
    now: Time::from_millis(7_000),
    name: 7,
};

fn used(policy: Evict, times: u32) -> History {
    let mut history = policy.history();
    for call in 0..times {
        let now = Time::from_millis(1_000 * u64::from(call));
        let call = Use {
            now,
            busy: 0,
            clock: 2.0,
        };
        history.arrived(&call);
        history.used(&call);
        history.released(0, now + Duration::from_millis(100));
    }
    history
}

#[test]
fn each_is_its_formula() {
    for (policy, expected) in [
        (Evict::Gdsf, 42.0),
        (Evict::Landlord, 12.0),
        (Evict::Lfu, 4.0),
        (Evict::Size, 2.4),
        (Evict::Lru, 5.0),
        (Evict::Ttl, 5.0),
        (Evict::LongTtl, 5.0),
        (Evict::Hist, 5.0),
    ] {
        let worth = used(policy, 4).worth(&THING);
        assert!((worth - expected).abs() < 1e-9, "{policy:?}: {worth}");
    }
}

#[test]
fn dearer_and_smaller_is_never_worth_less() {
    let dearer = Thing {
        rebuild: THING.rebuild * 2,
        ..THING
    };
    let smaller = Thing {
        memory: Bytes::from_mb(5),
        ..THING
    };
    for policy in Evict::ALL {
        let history = used(policy, 3);
        for better in [dearer, smaller] {
            assert!(
                history.worth(&better) >= history.worth(&THING),
                "{policy:?}"
            );
        }
    }
    for policy in [Evict::Gdsf, Evict::Value, Evict::Layered] {
        assert!(used(policy, 3).worth(&dearer) > used(policy, 3).worth(&THING));
        assert!(used(policy, 6).worth(&THING) > used(policy, 1).worth(&THING));
    }
}

#[test]
fn worth_is_a_number_whatever_happened() {
    let nothing = Thing {
        rebuild: Duration::ZERO,
        memory: Bytes::ZERO,
        level: 0,
        ..THING
    };
    for policy in Evict::ALL {
        for mut history in [policy.history(), used(policy, 5)] {
            for left in [3, 0] {
                history.lost(left);
                for thing in [THING, nothing] {
                    assert!(history.worth(&thing).is_finite(), "{policy:?}");
                    let before = history.worth(&thing);
                    history.remember(&thing);
                    let after = history.worth(&thing);
                    assert!((before - after).abs() < 1e-9, "{policy:?}");
                }
            }
        }
    }
}

#[test]
fn chance_is_the_same_until_the_next_use_and_another_for_another_thing() {
    let other = Thing { name: 8, ..THING };
    let (before, after) = (used(Evict::Rand, 1), used(Evict::Rand, 2));
    assert_eq!(
        before.worth(&THING).to_bits(),
        before.worth(&THING).to_bits()
    );
    assert!((before.worth(&THING) - after.worth(&THING)).abs() > 1e-9);
    assert!((before.worth(&THING) - before.worth(&other)).abs() > 1e-9);
}

#[test]
fn names_are_found_again_and_are_those_of_the_serialised() {
    for policy in Evict::ALL {
        assert_eq!(Evict::parse(policy.name()), Some(policy));
        let written = serde_json::to_string(&policy).unwrap();
        assert_eq!(written, alloc::format!("\"{}\"", policy.name()));
    }
    assert_eq!(Evict::parse("fifo"), None);
}
