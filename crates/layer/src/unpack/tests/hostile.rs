//! Archives that mean harm. `Site::unpack` checks after each that nothing outside the layer has changed.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::testing::{Site, Tar, privileged};
use crate::{Error, ErrorKind};

fn refused(archive: &[u8]) -> Error {
    let error = Site::new().unpack(archive).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    error
}

#[test]
fn names_that_climb_out_are_refused_by_name() {
    for name in [
        "../outside/evil",
        "a/../../outside/evil",
        "/../outside/evil",
        "..",
    ] {
        let error = refused(&Tar::new().file(name, b"").end());
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
#[ignore = "needs root"]
fn absolute_names_stay_inside() {
    if !privileged() {
        return;
    }
    let site = Site::new();
    let target = format!("{}/evil", site.outside());
    site.unpack(&Tar::new().file(&target, b"x").end()).unwrap();
    assert_eq!(site.read(&target[1..]), "x");
}

#[test]
#[ignore = "needs root"]
fn parents_that_are_links_are_resolved_inside() {
    if !privileged() {
        return;
    }
    let site = Site::new();
    let outside = site.outside();
    let archive = Tar::new()
        .symlink("abs", &outside)
        .file("abs/evil", b"1")
        .symlink("up", "../../../../../../../../outside")
        .file("up/evil", b"2")
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .file("lib/good", b"3")
        .symlink("usr/back", "../lib/../../new/./x")
        .file("usr/back/f", b"4")
        .end();
    site.unpack(&archive).unwrap();
    assert_eq!(site.read(&format!("{}/evil", &outside[1..])), "1");
    assert_eq!(site.read("outside/evil"), "2");
    assert_eq!(site.read("usr/lib/good"), "3");
    assert_eq!(site.read("new/x/f"), "4");
}

#[test]
#[ignore = "needs root"]
fn a_link_is_never_written_through() {
    if !privileged() {
        return;
    }
    let site = Site::new();
    let secret = format!("{}/secret", site.outside());
    let archive = Tar::new()
        .symlink("f", &secret)
        .file("f", b"mine")
        .symlink("d", &site.outside())
        .directory("d")
        .file("d/evil", b"inside")
        .symlink("n", &secret)
        .char_device("n", 1, 3)
        .symlink("w", &site.outside())
        .file("w/.wh.secret", b"")
        .symlink("o", &site.outside())
        .file("o/.wh..wh..opq", b"")
        .end();
    site.unpack(&archive).unwrap();
    assert_eq!(site.read("f"), "mine");
    assert_eq!(site.read("d/evil"), "inside");
    assert!(crate::testing::xattr(std::path::Path::new(&site.outside()), "trusted.overlay.opaque").is_none());
}

#[test]
fn link_loops_as_parents_are_refused() {
    let archive = Tar::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", b"")
        .end();
    assert!(matches!(refused(&archive), Error::ParentLoop { .. }));
    let archive = Tar::new().file("a", b"").file("a/x", b"").end();
    assert!(matches!(refused(&archive), Error::ParentNotDirectory { .. }));
}

#[test]
#[ignore = "needs root"]
fn hard_links_reach_only_files_of_the_layer() {
    let site = Site::new();
    let secret = format!("{}/secret", site.outside());
    let escape = Tar::new().hardlink("h", "../outside/secret").end();
    assert!(matches!(site.unpack(&escape), Err(Error::LinkEscape { .. })));
    for archive in [
        Tar::new().hardlink("h", &secret).end(),
        Tar::new()
            .symlink("l", "../outside")
            .hardlink("h", "l/secret")
            .end(),
        Tar::new().directory("d").hardlink("h", "d").end(),
        Tar::new().hardlink("h", "/").end(),
        Tar::new().hardlink("h", "h").end(),
        Tar::new().file("d/f", b"").hardlink("d", "d/f").end(),
    ] {
        let error = Site::new().unpack(&archive).unwrap_err();
        assert!(matches!(error, Error::LinkTarget { .. }), "{error}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_hard_link_to_a_link_is_that_link_and_not_what_it_names() {
    if !privileged() {
        return;
    }
    let site = Site::new();
    let secret = format!("{}/secret", site.outside());
    let archive = Tar::new()
        .symlink("l", &secret)
        .hardlink("h", "l")
        .hardlink("h", "l")
        .hardlink("l", "l")
        .file("h", b"mine")
        .end();
    let unpacked = site.unpack(&archive).unwrap();
    assert_eq!(site.read("h"), "mine");
    assert_eq!(unpacked.files, 3);
}

#[test]
#[ignore = "needs root"]
fn later_entries_win_whatever_their_types() {
    if !privileged() {
        return;
    }
    let tree = |tar: Tar| {
        tar.directory("x")
            .directory("x/d")
            .file("x/d/f", b"")
            .symlink("x/l", "/")
    };
    let makers: [fn(Tar) -> Tar; 5] = [
        |tar| tar.file("x", b"file"),
        |tar| tar.symlink("x", "/etc"),
        |tar| tar.char_device("x", 1, 3),
        |tar| tar.file("o", b"linked").hardlink("x", "o"),
        |tar| tar.file(".wh.x", b""),
    ];
    for (first, make_first) in makers.iter().enumerate() {
        let site = Site::new();
        site.unpack(&tree(make_first(Tar::new())).end()).unwrap();
        assert!(site.root.join("x/d/f").is_file(), "directory over {first}");
        assert_eq!(
            site.xattr("x", "trusted.overlay.opaque").as_deref(),
            Some(&b"y"[..]),
            "directory over {first}"
        );
        let site = Site::new();
        site.unpack(&make_first(tree(Tar::new())).end()).unwrap();
        assert!(
            !std::fs::symlink_metadata(site.root.join("x")).unwrap().is_dir(),
            "{first} over directory"
        );
        for (second, make_second) in makers.iter().enumerate() {
            let (both, alone) = (Site::new(), Site::new());
            both.unpack(&make_second(make_first(Tar::new())).end()).unwrap();
            alone.unpack(&make_second(Tar::new()).end()).unwrap();
            let stat = |site: &Site| std::fs::symlink_metadata(site.root.join("x")).unwrap();
            let facts = |site: &Site| (stat(site).mode(), stat(site).rdev(), stat(site).len());
            assert_eq!(facts(&both), facts(&alone), "{second} over {first}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_directory_twice_keeps_its_contents_and_takes_the_later_metadata() {
    if !privileged() {
        return;
    }
    let again = Tar::header(b'5', b"d/", b"", 0, 0o700);
    let site = Site::new();
    site.unpack(
        &Tar::new()
            .directory("d")
            .file("d/f", b"kept")
            .raw(again, b"")
            .end(),
    )
    .unwrap();
    let stat = std::fs::metadata(site.root.join("d")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o700, 1_000_000_000));
    assert_eq!(site.read("d/f"), "kept");
}

#[test]
#[ignore = "needs root"]
fn whiteouts_become_devices_and_replace_what_is_there() {
    if !privileged() {
        return;
    }
    let site = Site::new();
    let archive = Tar::new()
        .directory("d")
        .file("d/f", b"")
        .file(".wh.d", b"")
        .file("e/.wh.gone", b"")
        .file("e/.wh..wh..opq", b"")
        .file(".wh..wh.plnk", b"")
        .file(".wh..wh.orph/x", b"")
        .file("s/.wh.t", b"")
        .file("s/t/u", b"new")
        .end();
    let unpacked = site.unpack(&archive).unwrap();
    for name in ["d", "e/gone"] {
        let stat = std::fs::symlink_metadata(site.root.join(name)).unwrap();
        assert!(stat.file_type().is_char_device() && stat.rdev() == 0, "{name}");
    }
    assert_eq!(
        site.xattr("e", "trusted.overlay.opaque").as_deref(),
        Some(&b"y"[..])
    );
    assert_eq!(
        site.xattr("s/t", "trusted.overlay.opaque").as_deref(),
        Some(&b"y"[..])
    );
    assert_eq!(site.read("s/t/u"), "new");
    assert_eq!(std::fs::read_dir(&site.root).unwrap().count(), 3);
    assert!(!unpacked.opaque_root);
    for name in [".wh.", ".wh..", "a/.wh..."] {
        assert!(matches!(
            refused(&Tar::new().file(name, b"").end()),
            Error::Whiteout { .. }
        ));
    }
}

#[test]
#[ignore = "needs root"]
fn attributes_of_the_overlay_itself_are_dropped() {
    if !privileged() {
        return;
    }
    let archive = Tar::new()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.nonsense", b"y"),
            ("SCHILY.xattr.trusted.kept", b"k"),
        ])
        .directory("d")
        .end();
    let site = Site::new();
    assert_eq!(site.unpack(&archive).unwrap().dropped_xattrs, 3);
    assert_eq!(site.xattr("d", "trusted.overlay.redirect"), None);
    assert_eq!(site.xattr("d", "trusted.kept").as_deref(), Some(&b"k"[..]));
}

#[test]
fn types_and_fields_without_meaning_are_refused() {
    for kind in *b"VMDNAX?" {
        let archive = Tar::new().raw(Tar::header(kind, b"x", b"", 0, 0o644), b"").end();
        assert!(matches!(refused(&archive), Error::Unsupported { .. }));
    }
    for (key, value) in [
        ("uid", &b"4294967295"[..]),
        ("gid", b"18446744073709551616"),
        ("path", b"a\0b"),
        ("mtime", b"x"),
    ] {
        assert!(matches!(
            refused(&Tar::new().pax(&[(key, value)]).file("x", b"").end()),
            Error::Field { .. }
        ));
    }
    assert!(matches!(
        refused(&Tar::new().file("./", b"x").end()),
        Error::Root { .. }
    ));
    assert!(matches!(
        refused(&Tar::new().symlink("x", "").end()),
        Error::Field { .. }
    ));
}
