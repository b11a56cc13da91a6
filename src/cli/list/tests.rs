use clap::Parser as _;

use super::*;

#[derive(Debug, clap::Parser)]
struct Command {
    #[command(flatten)]
    args: ListArgs,
}

fn args(given: &[&str]) -> ListArgs {
    Command::try_parse_from(["ps"].iter().chain(given)).unwrap().args
}

#[test]
fn filters_choose_by_every_property() {
    let labels: BTreeMap<String, String> = [("app", "web"), ("tier", "front")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let chosen = |given: &[&str], state: &str| {
        args(given).wants(
            state == "running",
            &Properties {
                id: "4f5e",
                name: "nginx",
                pod: "web-1",
                namespace: "shop",
                image: &["docker.io/library/nginx:1", "sha256:77"],
                state,
                labels: &labels,
            },
        )
    };
    for (given, state, wanted) in [
        (&[][..], "running", true),
        (&[], "exited", false),
        (&["-a"], "exited", true),
        (&["-f", "state=exited"], "exited", true),
        (&["-f", "state=Exited"], "exited", true),
        (&["-f", "status=exited"], "running", false),
        (&["-f", "name=nginx"], "running", true),
        (&["-f", "name=ngin"], "running", false),
        (&["-f", "name=ng*"], "running", true),
        (&["-f", "name=x", "-f", "name=nginx"], "running", true),
        (&["-f", "name=nginx", "-f", "pod=db"], "running", false),
        (&["-f", "pod=web-*", "-f", "namespace=shop"], "running", true),
        (&["-f", "id=4f"], "running", true),
        (&["-f", "id=5e"], "running", false),
        (&["-f", "image=*nginx*"], "running", true),
        (&["-f", "label=app"], "running", true),
        (
            &["-f", "label=app=web", "-f", "label=tier=front"],
            "running",
            true,
        ),
        (
            &["-f", "label=app=web", "-f", "label=tier=back"],
            "running",
            false,
        ),
        (&["-f", "label=app=w*"], "running", true),
    ] {
        assert_eq!(chosen(given, state), wanted, "{given:?} {state}");
    }
}

#[test]
fn a_wrong_filter_is_refused() {
    for given in ["name", "label", "=x"] {
        assert!(
            Command::try_parse_from(["ps", "--filter", given]).is_err(),
            "{given}"
        );
    }
}

fn view(name: &str, state: &'static str, exit: Option<Exit>) -> ContainerView {
    ContainerView {
        id: "0123456789abcdef".to_owned(),
        name: name.to_owned(),
        attempt: 2,
        namespace: "shop".to_owned(),
        pod: "web-1".to_owned(),
        pod_id: "fedcba9876543210".to_owned(),
        state,
        created_at: crate::state::now() - 100_000_000_000,
        image: "nginx:\u{1b}[2J".to_owned(),
        image_id: "sha256:abcdef".to_owned(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        exit,
    }
}

#[test]
fn the_table_says_how_a_container_ended_and_controls_no_terminal() {
    let exit = |exit_code, reason: &str| {
        Some(Exit {
            exit_code,
            reason: reason.to_owned(),
            finished_at: 0,
        })
    };
    let containers = [
        view("nginx", "running", None),
        view("init", "exited", exit(0, "Completed")),
        view("hog", "exited", exit(137, "OOMKilled")),
    ];
    let lines = container_table(&containers, &args(&["--no-trunc"]));
    let text = screen::text(&lines, false);
    let rows: Vec<&str> = text.lines().collect();
    assert!(
        rows[0].starts_with("CONTAINER ") && !rows[0].contains("POD ID"),
        "{text}"
    );
    assert!(rows[1].contains("shop/web-1/nginx   running"), "{text}");
    assert!(rows[1].contains("1m 40s   nginx:\\u{1b}[2J"), "{text}");
    assert!(
        rows[2].contains("exited 0 ") && rows[3].contains("exited 137 (OOMKilled)"),
        "{text}"
    );
    assert_eq!(
        lines.iter().map(|line| line.style).collect::<Vec<_>>(),
        ["", "", DIM, RED]
    );
    let text = screen::text(&container_table(&containers, &args(&["-o", "wide"])), false);
    assert!(
        text.contains("fedcba9876543 ") && text.contains("abcdef\n"),
        "{text}"
    );
}
