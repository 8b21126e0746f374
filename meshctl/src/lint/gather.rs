//! From paths to texts: files, directories with all below them, the standard input.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file's text, or why it could not be read, under the name that findings call it by.
#[derive(Clone, Debug)]
pub struct File {
    pub(super) name: Arc<str>,
    pub(super) text: Result<String, String>,
}

impl File {
    /// One that was read.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: Ok(text.into()) }
    }
}

/// Every file of the paths, each once, those of a directory by name.
///
/// # Errors
/// When a path itself cannot be read. What cannot be read inside a directory is a finding.
pub(super) fn gather(paths: &[PathBuf]) -> Result<Vec<File>, String> {
    let mut files = Vec::new();
    for path in paths {
        let refused = |error: io::Error| format!("{}: {error}", path.display());
        if path.as_os_str() == "-" {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map_err(refused)?;
            files.push(File::new("<stdin>", text));
        } else if path.is_dir() {
            fs::read_dir(path).map_err(refused)?;
            directory(path, &mut files);
        } else {
            let text = fs::read_to_string(path).map_err(refused)?;
            files.push(File::new(path.display().to_string(), text));
        }
    }
    let mut seen = std::collections::HashSet::new();
    files.retain(|file| seen.insert(Arc::clone(&file.name)));
    Ok(files)
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
            files.push(match fs::read_to_string(&path) {
                Ok(text) => File::new(path.display().to_string(), text),
                Err(error) => unread(&path, &error),
            });
        }
    }
}

fn unread(path: &Path, error: &io::Error) -> File {
    File { name: path.display().to_string().into(), text: Err(format!("cannot be read: {error}")) }
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
            let files = gather(paths).unwrap();
            let name = |file: &File| file.name.strip_prefix(scratch.path().to_str().unwrap()).map(str::to_owned);
            files.iter().filter_map(name).collect()
        };
        let everything = ["/a.yml", "/b/deeper/y.yaml", "/b/x.json", "/c.yaml"];
        assert_eq!(found(&[scratch.path().into()]), everything);
        // Named twice is read once, and a file that is named is read whatever it is called.
        let (a, md) = (scratch.path().join("a.yml"), scratch.path().join("readme.md"));
        assert_eq!(found(&[a, md, scratch.path().into()]).len(), 5);
        assert!(gather(&[scratch.path().join("nowhere")]).unwrap_err().contains("nowhere: "));
    }
}
