//! Registration: a WorkloadEntry file that says where this workload listens.
//!
//! On Kubernetes the platform does this. Everywhere else a directory that every process watches is registry
//! enough: one file per running workload, written when it serves and removed first of all when it leaves.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use mesh_core::Workload;

/// A file that stands while the workload is in discovery. Dropping it takes the workload out.
#[derive(Debug)]
pub(crate) struct Registration {
    file: PathBuf,
    entry: String,
}

impl Registration {
    /// Write the entry, whole or not at all.
    pub(crate) fn write(directory: &Path, workload: &Workload, address: SocketAddr) -> io::Result<Self> {
        // As many workloads as there are names, hosts and ports may share the directory.
        let host = address.ip().to_string().replace(['.', ':'], "-");
        let name = format!("{}-{host}-{}", workload.name, address.port());
        let file = directory.join(format!("{}-{name}.yaml", workload.namespace));
        // Readers skip hidden files: nobody sees half an entry.
        let unfinished = directory.join(format!(".{name}.{}", std::process::id()));
        let entry = entry(&name, workload, address);
        fs::write(&unfinished, &entry)?;
        fs::rename(&unfinished, &file)?;
        Ok(Self { file, entry })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // By now it may be the entry of the process that came after this one, at the same address.
        if fs::read_to_string(&self.file).is_ok_and(|entry| entry != self.entry) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %self.file.display(), %error, "still in discovery: entry not removed");
        }
    }
}

/// JSON is YAML: no value needs quoting by rules of our own.
fn entry(name: &str, workload: &Workload, address: SocketAddr) -> String {
    let mut labels: std::collections::BTreeMap<&str, &str> = workload.labels.iter().collect();
    labels.insert("service.istio.io/workload-name", &workload.name);
    let value = serde_json::json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {
            "name": name,
            "namespace": &*workload.namespace,
            "annotations": {"mesh.rs/pid": std::process::id().to_string()},
        },
        "spec": {
            "address": address.ip().to_string(),
            "ports": {"http": address.port(), "http2": address.port(), "grpc": address.port()},
            "labels": labels,
            "serviceAccount": &*workload.service_account,
        },
    });
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use mesh_core::{
        Labels,
        config::{Document, Issues},
        registry::WorkloadEntry,
    };

    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let workload = Workload::new("default", "a-v1").with_labels(Labels::from_iter([("app", "a\"\n: x")]));
        let text = entry("a-v1-1", &workload, "127.0.0.1:1".parse().unwrap());
        let mut issues = Issues::default();
        let documents = Document::parse_all("x", &text, &mut issues);
        let entry = WorkloadEntry::from_document(&documents[0], &mut issues).unwrap();
        assert!(issues.is_empty(), "{issues}");
        assert_eq!(entry.labels.get("app"), Some("a\"\n: x"));
        assert_eq!(entry.ports["http"], 1);
    }

    #[test]
    fn who_leaves_takes_away_only_its_own() {
        let scratch = mesh_test::Scratch::new();
        let address = "127.0.0.1:1".parse().unwrap();
        let other = "127.0.0.2:1".parse().unwrap();
        let files = || fs::read_dir(scratch.path()).unwrap().count();
        let one = Registration::write(scratch.path(), &Workload::new("default", "a"), address).unwrap();
        let two = Registration::write(scratch.path(), &Workload::new("default", "a"), other).unwrap();
        let three = Registration::write(scratch.path(), &Workload::new("other", "a"), address).unwrap();
        assert_eq!(files(), 3);
        // A successor at the same address writes its own entry.
        let successor = Workload::new("default", "a").with_service_account("new");
        let successor = Registration::write(scratch.path(), &successor, address).unwrap();
        drop(one);
        assert_eq!(files(), 3);
        drop((two, three, successor));
        assert_eq!(files(), 0);
    }
}
