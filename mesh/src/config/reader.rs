//! Where configuration comes from, and reading all of it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use mesh_core::config::Position;

/// One origin of configuration.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file, or a directory's `*.yaml`, `*.yml` and `*.json` (not its subdirectories). Watched.
    Path(PathBuf),
    /// Text in code, under a name that errors call it by.
    Text(Arc<str>, Arc<str>),
}

/// The text of one file, or why it could not be read. A directory that could not be read stands for all its files.
pub(crate) type Text = Result<Arc<str>, Unreadable>;

/// Why there is no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// Where in the file; its beginning where that is not known.
    pub(crate) position: Position,
    pub(crate) why: Arc<str>,
}

impl From<String> for Unreadable {
    fn from(why: String) -> Self {
        Self { position: Position { line: 1, column: 1 }, why: why.into() }
    }
}

/// The text that a file's bytes are. YAML is Unicode (1.2, 5.1); here UTF-8 alone.
pub(crate) fn decode(bytes: Vec<u8>) -> Text {
    String::from_utf8(bytes).map(Arc::from).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let last = good.rsplit('\n').next().unwrap_or_default();
        let position =
            Position { line: count(good.matches('\n').count() + 1), column: count(last.chars().count() + 1) };
        Unreadable { position, why: "cannot be read: this is not UTF-8".into() }
    })
}

/// Every file's text, in the order of the sources and of the files' names within a directory: Istio's creation
/// order, for files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Texts(pub(crate) Vec<(Arc<str>, Text)>);

/// Reads sources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reader {
    pub(crate) sources: Vec<Source>,
}

impl Reader {
    /// Read everything. Blocking: small files, outside the request path.
    pub(crate) fn read(&self) -> Texts {
        let mut texts = Vec::new();
        let mut seen = BTreeSet::new();
        for source in &self.sources {
            match source {
                Source::Text(name, text) => {
                    // Each text counts, whatever it is called.
                    let mut unique = Arc::clone(name);
                    let mut copies = 1;
                    while !seen.insert(Arc::clone(&unique)) {
                        copies += 1;
                        unique = format!("{name} ({copies})").into();
                    }
                    texts.push((unique, Ok(Arc::clone(text))));
                }
                Source::Path(path) => {
                    // A file named twice is one file.
                    texts.extend(read_path(path).into_iter().filter(|(name, _)| seen.insert(Arc::clone(name))));
                }
            }
        }
        Texts(texts)
    }

    /// The paths to watch.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().filter_map(|source| match source {
            Source::Path(path) => Some(path.as_path()),
            Source::Text(..) => None,
        })
    }
}

fn read_path(path: &Path) -> Vec<(Arc<str>, Text)> {
    let refused = |path: &Path, error: io::Error| (name(path), Err(format!("cannot be read: {error}").into()));
    if !path.is_dir() {
        return match fs::read(path) {
            Ok(bytes) => vec![(name(path), decode(bytes))],
            Err(error) => vec![refused(path, error)],
        };
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return vec![refused(path, error)],
    };
    let entries: io::Result<Vec<fs::DirEntry>> = entries.collect();
    let mut files: Vec<PathBuf> = match entries {
        Ok(entries) => entries.iter().map(fs::DirEntry::path).filter(|path| is_config(path)).collect(),
        // Half a listing would take away what it leaves out.
        Err(error) => return vec![refused(path, error)],
    };
    files.sort();
    let read = |file: PathBuf| match fs::read(&file) {
        Ok(bytes) => Some((name(&file), decode(bytes))),
        // Gone between listing and reading: removed, like any other file that is not there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(refused(&file, error)),
    };
    files.into_iter().filter_map(read).collect()
}

/// Configuration by its name; hidden files are editors' and kubelet's.
fn is_config(path: &Path) -> bool {
    let hidden = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json")) && !path.is_dir()
}

fn name(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

#[cfg(test)]
mod tests {
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
}
