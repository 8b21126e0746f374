//! From paths to texts: files, directories with all below them, the standard input.

use std::{
    collections::HashSet,
    fs,
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use mesh_core::config::Position;

/// A file's text, or why it could not be read, under the name that findings call it by.
#[derive(Clone, Debug)]
pub struct File {
    pub(super) name: Arc<str>,
    pub(super) text: Result<String, (Position, String)>,
}

impl File {
    /// One that was read.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: Ok(text.into()) }
    }

    /// YAML is Unicode (1.2, 5.1); here UTF-8 alone.
    fn decoded(name: impl Into<Arc<str>>, bytes: Vec<u8>) -> Self {
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
            let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            let last = good.rsplit('\n').next().unwrap_or_default();
            let line = count(good.matches('\n').count() + 1);
            (Position { line, column: count(last.chars().count() + 1) }, "cannot be read: this is not UTF-8".into())
        });
        Self { name: name.into(), text }
    }
}

/// Every file of the paths, each once, those of a directory by name; and why paths themselves could not be read. What
/// cannot be read inside a directory is a finding.
pub(super) fn gather(paths: &[PathBuf]) -> (Vec<File>, Vec<String>) {
    let (mut files, mut refused) = (Vec::new(), Vec::new());
    for path in paths {
        if let Err(error) = one(path, &mut files) {
            refused.push(format!("{}: {error}", path.display()));
        }
    }
    let mut seen = HashSet::new();
    // `a.yaml` and `./a.yaml` are one.
    let plain =
        |name: &str| Path::new(name).components().filter(|part| *part != Component::CurDir).collect::<PathBuf>();
    files.retain(|file| seen.insert(plain(&file.name)));
    (files, refused)
}

fn one(path: &Path, files: &mut Vec<File>) -> io::Result<()> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes)?;
        files.push(File::decoded("<stdin>", bytes));
    } else if path.is_dir() {
        fs::read_dir(path)?;
        directory(path, files);
    } else {
        files.push(File::decoded(path.display().to_string(), fs::read(path)?));
    }
    Ok(())
}

fn directory(path: &Path, files: &mut Vec<File>) {
    let mut entries: Vec<PathBuf> = match fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries.iter().map(fs::DirEntry::path).filter(|path| !is_hidden(path)).collect(),
        Err(error) => return files.push(unread(path, &error)),
    };
    entries.sort();
    for path in entries {
        // Links to files are Kubernetes' way to mount them; links to directories may lead in circles.
        if path.is_dir() {
            if !path.is_symlink() {
                directory(&path, files);
            }
        } else if matches!(path.extension().and_then(|extension| extension.to_str()), Some("yaml" | "yml" | "json")) {
            files.push(match fs::read(&path) {
                Ok(bytes) => File::decoded(path.display().to_string(), bytes),
                Err(error) => unread(&path, &error),
            });
        }
    }
}

fn unread(path: &Path, error: &io::Error) -> File {
    File {
        name: path.display().to_string().into(),
        text: Err((Position { line: 1, column: 1 }, format!("cannot be read: {error}"))),
    }
}

/// Editors', version control's and kubelet's.
fn is_hidden(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_read_with_all_below_them() {
        let scratch = mesh_test::Scratch::new();
        let _ = (scratch.dir("b/deeper"), scratch.dir(".git"));
        for name in ["c.yaml", "a.yml", "b/x.json", "b/deeper/y.yaml", "readme.md", ".git/z.yaml", ".hidden.yaml"] {
            scratch.write(name, "");
        }
        let found = |paths: &[PathBuf]| -> Vec<String> {
            let (files, refused) = gather(paths);
            assert!(refused.is_empty(), "{refused:?}");
            let name = |file: &File| file.name.strip_prefix(scratch.path().to_str().unwrap()).map(str::to_owned);
            files.iter().filter_map(name).collect()
        };
        let everything = ["/a.yml", "/b/deeper/y.yaml", "/b/x.json", "/c.yaml"];
        assert_eq!(found(&[scratch.path().into()]), everything);
        // Named twice is read once, and a file that is named is read whatever it is called.
        let (a, md) = (scratch.path().join("a.yml"), scratch.path().join("readme.md"));
        assert_eq!(found(&[a, md, scratch.path().into()]).len(), 5);
        let dotted = PathBuf::from(format!("{}/./a.yml", scratch.path().display()));
        assert_eq!(found(&[scratch.path().into(), dotted]).len(), 4);
        // One that is missing does not hide the others.
        let (files, refused) = gather(&[scratch.path().join("nowhere"), scratch.path().into()]);
        assert_eq!((files.len(), refused.len()), (4, 1));
        assert!(refused[0].contains("nowhere: "));
    }

    #[test]
    fn what_is_not_utf8_says_where() {
        let scratch = mesh_test::Scratch::new();
        let path = scratch.path().join("a.yaml");
        std::fs::write(&path, b"a: 1\nb: \xc3\xa9\xff\n").unwrap();
        for given in [path, scratch.path().into()] {
            let (files, _) = gather(&[given]);
            let (position, why) = files[0].text.clone().unwrap_err();
            assert_eq!(position, Position { line: 2, column: 5 });
            assert!(why.contains("not UTF-8"));
        }
    }
}
