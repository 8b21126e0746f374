use super::*;

#[test]
fn what_is_not_utf8_says_where() {
    for (bytes, line, column) in
        [(&b"\xff"[..], 1, 1), (b"a: 1\nb: \xc3\xa9\xff\n", 2, 5), (b"a: \xe2\x82", 1, 4), (b"a\n\n\xfe", 3, 1)]
    {
        let unreadable = decode(bytes.to_vec()).unwrap_err();
        assert_eq!(unreadable.position, Position { line, column }, "{bytes:?}");
        assert!(unreadable.why.contains("not UTF-8"));
    }
    assert_eq!(&*decode(b"a: \xc3\xa9".to_vec()).unwrap(), "a: \u{e9}");
}

/// What is said of the directories, without the scratch directory's own name.
fn said(scratch: &mesh_test::Scratch, paths: &[&str]) -> Vec<String> {
    let sources = paths.iter().map(|path| Source::Path(scratch.path().join(path))).collect();
    let Texts(_, said) = Reader { sources }.read();
    let root = format!("{}/", scratch.path().display());
    assert!(said.iter().all(|issue| issue.topic == Topic::NotRead));
    said.iter().map(|issue| issue.to_string().replace(&root, "")).collect()
}

#[test]
fn a_subdirectory_with_configuration_that_nobody_reads_is_told_of_once() {
    let scratch = mesh_test::Scratch::new();
    for directory in ["mesh/b", "mesh/a", "mesh/no/deeper", "mesh/.git", "mesh/..2026"] {
        let _ = scratch.dir(directory);
    }
    for file in ["mesh/x.yaml", "mesh/a/y.yml", "mesh/a/z.yaml", "mesh/b/y.json", "mesh/.git/y.yaml"] {
        scratch.write(file, "");
    }
    scratch.write("mesh/..2026/x.yaml", "");
    scratch.write("mesh/no/readme.md", "");
    scratch.write("mesh/no/.x.yaml", "");
    let warning = |name: &str| {
        format!("mesh/{name}:1:1: warning: subdirectory {name} holds configuration that is not read: name it too")
    };
    assert_eq!(said(&scratch, &["mesh"]), [warning("a"), warning("b")]);
    assert_eq!(said(&scratch, &["mesh", "mesh"]), [warning("a"), warning("b")]);
    // Named too, in whatever way, and so is every file of it.
    assert_eq!(said(&scratch, &["mesh", "mesh/../mesh/b/"]), [warning("a")]);
    assert_eq!(said(&scratch, &["mesh", "mesh/a/y.yml", "mesh/b"]), [warning("a")]);
    assert_eq!(said(&scratch, &["mesh", "mesh/a/y.yml", "mesh/a/z.yaml", "mesh/b"]), [""; 0]);
}

/// Kubernetes mounts a ConfigMap so: `..data` is a link to a hidden directory, and each name a link below `..data`.
#[cfg(unix)]
#[test]
fn what_kubelet_mounts_is_read_without_a_word() {
    let scratch = mesh_test::Scratch::new();
    let _ = scratch.dir("mesh/..2026/sub");
    scratch.write("mesh/..2026/x.yaml", "a: 1");
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, scratch.path().join(name)).unwrap();
    link("..2026", "mesh/..data");
    link("..data/x.yaml", "mesh/x.yaml");
    link(".", "mesh/.itself");
    assert_eq!(said(&scratch, &["mesh"]), [""; 0]);
    // An item's path may have a directory, and links to directories are not read either.
    scratch.write("mesh/..2026/sub/y.yaml", "a: 1");
    link("..data/sub", "mesh/sub");
    assert_eq!(said(&scratch, &["mesh"]).len(), 1);
    // A link back is named already.
    link(".", "mesh/itself");
    assert_eq!(said(&scratch, &["mesh"]).len(), 1);
}

#[test]
fn an_empty_directory_is_nothing_to_talk_of() {
    let scratch = mesh_test::Scratch::new();
    let _ = scratch.dir("mesh/sub");
    scratch.write("mesh/readme.md", "");
    assert_eq!(said(&scratch, &["mesh"]), [""; 0]);
    scratch.write("mesh/sub/x.yaml", "");
    assert!(said(&scratch, &["mesh"])[0].starts_with("mesh/sub:1:1: warning: subdirectory sub holds"));
    assert_eq!(said(&scratch, &["mesh", "mesh/sub"]), [""; 0]);
}
