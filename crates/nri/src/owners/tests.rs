//! Claims of several plugins, and the messages about those that conflict.

use super::*;

fn claims<'a>(owners: &'a mut FieldOwners, plugin: &'a str) -> Claims<'a> {
    Claims {
        owners,
        container: "ctr0",
        plugin,
    }
}

#[test]
fn a_field_has_one_owner() {
    let owners = &mut FieldOwners::default();
    claims(owners, "00-a").claim(Field::MemLimit).unwrap();
    claims(owners, "00-a").claim(Field::CpuShares).unwrap();
    claims(owners, "10-b").claim(Field::MemLimit).unwrap_err();
    claims(owners, "00-a").claim(Field::MemLimit).unwrap_err();
    claims(owners, "10-b").clear(Field::MemLimit);
    claims(owners, "20-c").claim(Field::MemLimit).unwrap_err();
    claims(owners, "10-b").claim(Field::MemLimit).unwrap();
    assert_eq!(owners.simple[&Field::MemLimit.into()], "10-b");
    assert_eq!(owners.simple[&Field::CpuShares.into()], "00-a");
}

#[test]
fn entries_have_owners_of_their_own() {
    let owners = &mut FieldOwners::default();
    claims(owners, "00-a").claim_entry(Field::Env, "A").unwrap();
    claims(owners, "10-b").claim_entry(Field::Env, "B").unwrap();
    claims(owners, "10-b")
        .claim_entry(Field::Annotations, "A")
        .unwrap();
    claims(owners, "10-b").claim_entry(Field::Env, "A").unwrap_err();
    claims(owners, "10-b").clear_entry(Field::Env, "A");
    claims(owners, "00-a").claim_entry(Field::Env, "A").unwrap_err();
    claims(owners, "10-b").claim_entry(Field::Env, "A").unwrap();
    claims(owners, "00-a").clear_entry(Field::Env, "A");
    let env = &owners.compound[&Field::Env.into()].owners;
    assert_eq!((env["A"].as_str(), env["B"].as_str()), ("-00-a", "10-b"));
}

#[test]
fn hooks_have_all_that_add_some() {
    let owners = &mut FieldOwners::default();
    for plugin in ["00-a", "10-b", "20-c"] {
        claims(owners, plugin).join(Field::OciHooks);
    }
    assert_eq!(owners.simple[&Field::OciHooks.into()], "00-a,10-b,20-c");
}

#[test]
fn a_conflict_names_all_that_is_part_of_it() {
    let owners = &mut FieldOwners::default();
    claims(owners, "00-a").claim_entry(Field::Env, "A").unwrap();
    claims(owners, "10-b").clear_entry(Field::Env, "A");
    let error = claims(owners, "20-c").claim_entry(Field::Env, "A").unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("NRI plugins \"10-b\" and \"20-c\" both set Env \"A\" of container ctr0:"),
        "{text}"
    );
    claims(owners, "00-a").claim(Field::Args).unwrap();
    let text = claims(owners, "20-c").claim(Field::Args).unwrap_err().to_string();
    assert!(text.contains("both set Args of container ctr0:"), "{text}");
}
