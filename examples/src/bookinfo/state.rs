//! The directory that the processes of one bookinfo share.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

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

/// What [`mesh::Mesh::register`] writes, as far as it matters here.
#[derive(Deserialize)]
struct WorkloadEntry {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    address: IpAddr,
    ports: BTreeMap<String, u16>,
}

/// A process that was killed could not take its entry back. An entry is stale when nobody listens at its address.
fn remove_stale(workloads: &Path) -> io::Result<()> {
    for entry in fs::read_dir(workloads)? {
        let path = entry?.path();
        let Ok(Ok(entry)) = fs::read(&path).map(|text| serde_json::from_slice::<WorkloadEntry>(&text)) else {
            continue;
        };
        if entry.spec.ports.values().any(|port| answers(SocketAddr::new(entry.spec.address, *port))) {
            continue;
        }
        match fs::remove_file(&path) {
            // Two processes that start at once both clean up.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn answers(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, CONNECT).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: SocketAddr) -> String {
        serde_json::json!({
            "kind": "WorkloadEntry",
            "metadata": {"name": "a"},
            "spec": {"address": address.ip(), "ports": {"http": address.port()}, "labels": {"app": "reviews"}},
        })
        .to_string()
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
