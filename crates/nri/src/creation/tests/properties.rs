//! What holds for all plugins.

use proptest::prelude::*;

use super::*;

/// What a plugin does to an entry.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Add,
    Remove,
    Replace,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![Just(Step::Add), Just(Step::Remove), Just(Step::Replace)]
}

/// Who may set an entry.
#[derive(Debug, Clone, PartialEq)]
enum Owner {
    Nobody,
    Set(String),
    Cleared(String),
}

/// What is left of an entry after all plugins: whether it conflicts, and the value of the last one that set it.
fn model(steps: &[(Step, String)]) -> Result<(Owner, Option<String>), ()> {
    let (mut owner, mut value) = (Owner::Nobody, Some("original".to_owned()));
    for (step, plugin) in steps {
        if *step == Step::Replace || (*step == Step::Remove && matches!(owner, Owner::Set(_))) {
            owner = Owner::Cleared(plugin.clone());
        }
        if *step == Step::Remove {
            value = None;
            continue;
        }
        match &owner {
            Owner::Nobody => {}
            Owner::Cleared(by) if by == plugin => {}
            _ => return Err(()),
        }
        owner = Owner::Set(plugin.clone());
        value = Some(plugin.clone());
    }
    Ok((owner, value))
}

proptest! {
    /// Lists and maps follow the same rules: one entry of each, by plugins in a row.
    #[test]
    fn entries_follow_the_model(steps in prop::collection::vec(step(), 0..6)) {
        let steps: Vec<_> = steps.into_iter().enumerate().map(|(i, step)| (step, format!("{i:02}-x"))).collect();
        let mut creation = creation();
        let mut result = Ok(());
        for (step, plugin) in &steps {
            let marked = |key: &str, sign: &str| format!("{sign}{key}");
            let signs: &[&str] = match step {
                Step::Add => &[""],
                Step::Remove => &["-"],
                Step::Replace => &["", "-"],
            };
            let adjust = ContainerAdjustment {
                annotations: signs.iter().map(|sign| (marked("key", sign), plugin.clone())).collect(),
                env: signs.iter().map(|sign| variable(&marked("key", sign), plugin)).collect(),
                mounts: signs.iter().map(|sign| mount(&marked("/mnt/test", sign), plugin)).collect(),
                ..ContainerAdjustment::default()
            };
            result = result.and_then(|()| apply(&mut creation, plugin, adjust));
        }
        match model(&steps) {
            Err(()) => prop_assert!(result.is_err()),
            Ok((owner, value)) => {
                result.unwrap();
                let container = seen(&creation);
                prop_assert_eq!(container.annotations.get("key"), value.as_ref());
                let env = container.env.iter().find_map(|text| text.strip_prefix("key="));
                prop_assert_eq!(env, value.as_deref());
                let mut mounts = container.mounts.iter().filter(|mount| mount.destination == "/mnt/test");
                prop_assert_eq!(mounts.next().map(|mount| &mount.source), value.as_ref());
                let owners = creation.finish(Vec::new()).validation.owners.unwrap().owners;
                let expected = match owner {
                    Owner::Nobody => None,
                    Owner::Set(plugin) => Some(plugin),
                    Owner::Cleared(plugin) => Some(format!("-{plugin}")),
                };
                for (field, key) in [(Field::Annotations, "key"), (Field::Env, "key"), (Field::Mounts, "/mnt/test")] {
                    let compound = owners.get("ctr0").and_then(|fields| fields.compound.get(&field.into()));
                    let owner = compound.and_then(|entries| entries.owners.get(key));
                    prop_assert_eq!(owner, expected.as_ref(), "{:?}", field);
                }
            }
        }
    }

    /// Plugins that touch different things get the same result in any order, but for the order of lists.
    #[test]
    fn the_order_does_not_matter(order in Just((0..SUBJECTS.len()).collect::<Vec<_>>()).prop_shuffle()) {
        let all = |order: &mut dyn Iterator<Item = usize>| {
            let mut creation = creation();
            for index in order {
                apply(&mut creation, SUBJECTS[index], wanted(SUBJECTS[index], "x", false)).unwrap();
            }
            let seen = seen(&creation);
            (seen, merged(creation))
        };
        prop_assert_eq!(all(&mut order.into_iter()), all(&mut (0..SUBJECTS.len())));
    }
}
