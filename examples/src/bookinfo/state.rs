//! The directory that the processes of one bookinfo share.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use mesh::config::{Document, Issues};
use serde::Deserialize;

/// Loopback refuses at once; this only bounds what should not happen.
const CONNECT: Duration = Duration::from_millis(250);

/// Make the state directory, for its owner only: it holds the development CA's key. Returns the directory of
/// WorkloadEntry files in it, without those of processes that are no more.
pub(super) fn prepare(state: &Path) -> io::Result<PathBuf> {
    create_private(state)?;
    let workloads = state.join("workloads");
    create_private(&workloads)?;
    remove_stale(&workloads)?;
    Ok(workloads)
}

fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    // One that was there before may have been made by somebody more generous.
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(())
}

#[derive(Deserialize)]
struct WorkloadEntry {
    address: String,
    #[serde(default)]
    ports: BTreeMap<String, u16>,
}

/// A process that was killed could not take its entry back. An entry is stale when nobody listens at its address.
fn remove_stale(workloads: &Path) -> io::Result<()> {
    for entry in fs::read_dir(workloads)? {
        let path = entry?.path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let addresses = addresses(&text);
        if !addresses.is_empty()
            && !addresses.iter().any(|address| TcpStream::connect_timeout(address, CONNECT).is_ok())
        {
            match fs::remove_file(&path) {
                // Two processes that start at once both clean up.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn addresses(text: &str) -> Vec<SocketAddr> {
    let mut issues = Issues::default();
    let documents = Document::parse_all("workloads", text, &mut issues);
    let entries = documents.iter().filter_map(|document| document.decode::<WorkloadEntry>(&mut issues));
    let addresses = entries.filter_map(|entry| {
        let ip = entry.address.parse::<IpAddr>().ok()?;
        Some(entry.ports.into_values().map(move |port| SocketAddr::new(ip, port)))
    });
    addresses.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: SocketAddr) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: a}}\nspec:\n  address: {}\n  \
             ports: {{http: {}}}\n  labels: {{app: reviews}}\n",
            address.ip(),
            address.port()
        )
    }

    #[test]
    fn removes_the_entries_of_the_dead_only() {
        let state = std::env::temp_dir().join(format!("bookinfo-state-{}", std::process::id()));
        let workloads = prepare(&state).unwrap();
        let living = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        fs::write(workloads.join("living.yaml"), entry(living.local_addr().unwrap())).unwrap();
        fs::write(workloads.join("dead.yaml"), entry(dead)).unwrap();
        fs::write(workloads.join("other.yaml"), "- not an entry\n").unwrap();
        prepare(&state).unwrap();
        let mut left: Vec<_> = fs::read_dir(&workloads).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["living.yaml", "other.yaml"]);
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&state).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o700);
        }
        fs::remove_dir_all(&state).unwrap();
    }
}
