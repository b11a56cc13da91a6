use super::*;

fn measurement(bytes: u64) -> Measured {
    let usage = Usage { bytes, inodes: 1 };
    let limit = None;
    Measured { at: 1, usage, limit }
}

#[test]
fn a_layer_is_measured_once_while_it_is_fresh_and_by_one_at_a_time() {
    let (layers, id, start) = (Layers::default(), Id::random(), Instant::now());
    let due = layers.due([&id], start);
    assert_eq!((due.ids, due.first), (vec![id.clone()], true));
    // Somebody measures it already.
    assert!(layers.due([&id], start).ids.is_empty());
    layers.done(&id, Some(measurement(5)), start);
    assert!(layers.due([&id], start + FRESH / 2).ids.is_empty());
    let due = layers.due([&id], start + FRESH);
    assert_eq!((due.ids, due.first), (vec![id.clone()], false));
    // Known all the while, and a measurement that fails changes nothing.
    assert_eq!(layers.known([&id])[&id], measurement(5));
    layers.done(&id, None, start + FRESH);
    assert_eq!(layers.known([&id])[&id], measurement(5));
}

#[test]
fn what_nobody_asks_for_is_forgotten() {
    let (layers, id, start) = (Layers::default(), Id::random(), Instant::now());
    layers.due([&id], start);
    layers.done(&id, Some(measurement(5)), start);
    layers.due([&Id::random()], start + FORGOTTEN);
    assert!(layers.known([&id]).is_empty());
}

#[tokio::test]
async fn a_real_tree_and_one_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), vec![1; 100_000]).unwrap();
    let (layers, here, gone) = (Arc::new(Layers::default()), Id::random(), Id::random());
    let trees = vec![
        (here.clone(), directory.path().to_owned()),
        (gone.clone(), directory.path().join("nothing")),
    ];
    let known = super::measured(&layers, trees.clone(), Wait::First).await;
    let known = match known.get(&here) {
        Some(measured) => *measured,
        // A machine under load: the measurement goes on and is known in the end.
        None => {
            let in_the_end = async {
                loop {
                    tokio::task::yield_now().await;
                    if let Some(measured) = layers.known([&here]).get(&here) {
                        break *measured;
                    }
                }
            };
            let patience = std::time::Duration::from_secs(30);
            tokio::time::timeout(patience, in_the_end)
                .await
                .expect("the tree is measured")
        }
    };
    assert_eq!(known.usage.inodes, 2);
    assert!(known.usage.bytes >= 100_000, "{known:?}");
    assert!(known.at > 0);
    assert!(!layers.known([&gone]).contains_key(&gone));
}

#[test]
fn a_round_that_breaks_off_leaves_nothing_marked() {
    let (layers, id, start) = (Arc::new(Layers::default()), Id::random(), Instant::now());
    layers.due([&id], start);
    drop(Round {
        layers: Arc::clone(&layers),
        left: vec![(id.clone(), PathBuf::from("/nowhere"))],
    });
    assert_eq!(layers.due([&id], start).ids, [id]);
}
