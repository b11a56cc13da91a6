use super::*;

#[test]
fn ids_are_drawn_from_the_range_only() {
    for _ in 0..1000 {
        assert!(IDS.contains(&random().unwrap()));
    }
    assert_ne!(random().unwrap(), random().unwrap());
}

#[test]
fn a_file_system_without_projects_is_said_to_be_one() {
    // proc has neither quotas nor projects, on every machine.
    let projects = Projects::open(Path::new("/proc")).unwrap();
    assert_eq!(projects.support(), Support::Nothing);
    assert_eq!(project_of(Path::new("/proc")), None);
    let refusal = projects.unsupported();
    assert_eq!(refusal.kind(), ErrorKind::FailedPrecondition);
    let text = refusal.to_string();
    assert!(text.contains("/proc") && text.contains("prjquota"), "{text}");
    assert!(assign(&[Path::new("/proc")], *IDS.start()).is_err());
    assert!(projects.get(*IDS.start()).is_err());
}

#[test]
fn a_directory_that_is_not_there_has_no_project() {
    assert_eq!(project_of(Path::new("/nowhere/at/all")), None);
    assert!(Projects::open(Path::new("/nowhere/at/all")).is_err());
}
