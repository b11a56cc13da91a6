use super::*;

fn finished(steps: &Steps) -> Vec<&'static str> {
    let progress = steps.shared.progress.lock();
    progress.done.iter().map(|(step, _)| *step).collect()
}

fn step(watch: &StepsWatch) -> Option<&'static str> {
    watch.doing().unwrap().step.map(|(step, _)| step)
}

#[test]
fn entering_a_step_ends_the_one_before() {
    let steps = Steps::new("RunPodSandbox", "web-0");
    let watch = steps.watch();
    assert_eq!(step(&watch), None);
    steps.enter("netns");
    assert_eq!(step(&watch), Some("netns"));
    steps.enter("network");
    assert_eq!(step(&watch), Some("network"));
    assert_eq!(finished(&steps), ["netns"]);
    let since = watch.doing().unwrap().step;
    steps.enter("network");
    assert_eq!(watch.doing().unwrap().step, since, "it goes on");
    assert_eq!(finished(&steps), ["netns"]);
}

#[test]
fn a_watch_outlives_the_operation_and_keeps_nothing_of_it() {
    let steps = Steps::new("RunPodSandbox", "web-0");
    let watch = steps.watch();
    let text = watch.doing().unwrap().to_string();
    let beginning = "RunPodSandbox of web-0 has not begun its first step (";
    assert!(text.starts_with(beginning), "{text}");
    steps.enter("network");
    let text = watch.doing().unwrap().to_string();
    let beginning = "RunPodSandbox of web-0 has been in step network for ";
    assert!(text.starts_with(beginning), "{text}");
    assert!(!watch.has_ended());
    drop(steps);
    assert!(watch.has_ended() && watch.doing().is_none());
}

#[test]
fn a_loop_of_steps_does_not_grow_without_bound() {
    let steps = Steps::new("StopPodSandbox", "web-0");
    for _ in 0..10 * MAX_STEPS {
        steps.enter("kill");
        steps.enter("wait");
    }
    let finished = finished(&steps);
    assert_eq!(finished.len(), MAX_STEPS);
    assert_eq!(finished[MAX_STEPS - 1], "further");
}

#[test]
fn the_table_is_one_line() {
    let done = [
        ("netns", Duration::from_micros(210)),
        ("network", Duration::from_micros(3100)),
    ];
    assert_eq!(table(&done), "netns 0.210 ms, network 3.100 ms");
}
