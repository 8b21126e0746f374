//! Where configuration comes from, and reading all of it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use mesh_core::config::{Issue, Position, Severity, Topic};

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
/// order, for files. And what is to be said of the directories themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Texts(pub(crate) Vec<(Arc<str>, Text)>, pub(crate) Vec<Issue>);

/// Reads sources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reader {
    pub(crate) sources: Vec<Source>,
}

impl Reader {
    /// Read everything. Blocking: small files, outside the request path.
    pub(crate) fn read(&self) -> Texts {
        let mut texts = Vec::new();
        let mut unread: Vec<Issue> = Vec::new();
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
                    let (found, said) = self.read_path(path);
                    texts.extend(found.into_iter().filter(|(name, _)| seen.insert(Arc::clone(name))));
                    said.into_iter().for_each(|issue| {
                        if !unread.contains(&issue) {
                            unread.push(issue)
                        }
                    });
                }
            }
        }
        Texts(texts, unread)
    }

    /// The paths to watch.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().filter_map(|source| match source {
            Source::Path(path) => Some(path.as_path()),
            Source::Text(..) => None,
        })
    }
}

impl Reader {
    /// The files of a path, and what is to be said of it.
    fn read_path(&self, path: &Path) -> (Vec<(Arc<str>, Text)>, Vec<Issue>) {
        let refused = |path: &Path, error: io::Error| (name(path), Err(format!("cannot be read: {error}").into()));
        if !path.is_dir() {
            let text = match fs::read(path) {
                Ok(bytes) => (name(path), decode(bytes)),
                Err(error) => refused(path, error),
            };
            return (vec![text], Vec::new());
        }
        let entries: Vec<fs::DirEntry> = match fs::read_dir(path).and_then(Iterator::collect) {
            Ok(entries) => entries,
            // Half a listing would take away what it leaves out.
            Err(error) => return (vec![refused(path, error)], Vec::new()),
        };
        let (mut directories, mut files) = (Vec::new(), Vec::new());
        for entry in entries.into_iter().filter(|entry| !is_hidden(&entry.path())) {
            if is_directory(&entry) {
                directories.push(entry.path());
            } else if is_config(&entry.path()) {
                files.push(entry.path());
            }
        }
        directories.sort();
        files.sort();
        // Nothing is said of an empty one: workloads may be about to register there.
        let said: Vec<Issue> = directories.iter().filter_map(|directory| self.unread(directory)).collect();
        let read = |file: PathBuf| match fs::read(&file) {
            Ok(bytes) => Some((name(&file), decode(bytes))),
            // Gone between listing and reading: removed, like any other file that is not there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(refused(&file, error)),
        };
        (files.into_iter().filter_map(read).collect(), said)
    }

    /// A warning of a subdirectory whose files nobody reads. It is listed, and nothing below it: a poll costs no more.
    fn unread(&self, directory: &Path) -> Option<Issue> {
        // What cannot be listed may hold anything, and nothing is said of it.
        let entries = fs::read_dir(directory).ok()?;
        let files = entries.flatten().filter(|entry| is_config(&entry.path()) && !is_directory(entry));
        let files: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
        if files.is_empty() || self.names(directory) || files.iter().all(|file| self.names(file)) {
            return None;
        }
        let short = directory.file_name().unwrap_or_default().display();
        let message = format!("subdirectory {short} holds configuration that is not read: name it too");
        Some(not_read(directory, message))
    }

    /// Is it one of the sources, however it is written there?
    fn names(&self, path: &Path) -> bool {
        let whole = |path: &Path| fs::canonicalize(path).ok();
        self.paths().any(|source| source == path)
            || whole(path).is_some_and(|path| self.paths().any(|source| whole(source).as_ref() == Some(&path)))
    }
}

/// A warning about a directory, which has no lines.
fn not_read(directory: &Path, message: String) -> Issue {
    let start = Position { line: 1, column: 1 };
    Issue::new(Severity::Warning, &name(directory), start, message).about(Topic::NotRead)
}

/// Is it one, or a link to one? What the listing says of a plain file or directory is enough.
fn is_directory(entry: &fs::DirEntry) -> bool {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
        Ok(kind) => kind.is_dir(),
        Err(_) => false,
    }
}

/// Editors' and kubelet's.
fn is_hidden(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'))
}

/// Configuration by its name.
fn is_config(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    !is_hidden(path) && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn name(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

#[cfg(test)]
mod tests;
