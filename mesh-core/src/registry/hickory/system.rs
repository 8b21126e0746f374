//! The operating system's settings, read anew when they change.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use hickory_resolver::{Hosts, system_conf::read_system_conf};

use super::Config;

/// The files that are looked at. Elsewhere than on Unix there are none, and what was read once stays.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// When each was written.
type Written = [Option<SystemTime>; 2];

/// What lookups go by, now.
pub(super) struct System {
    current: Mutex<(Written, Arc<Config>)>,
    watched: bool,
}

impl System {
    pub(super) fn read() -> io::Result<Self> {
        let written = written();
        Ok(Self { current: Mutex::new((written, Arc::new(read()?))), watched: true })
    }

    /// This and no other.
    pub(super) fn given(config: Config) -> Self {
        Self { current: Mutex::new(([None; 2], Arc::new(config))), watched: false }
    }

    /// As glibc does (res_init since 2.26, nss_files), the files are looked at before each lookup; a file that became
    /// unreadable changes nothing.
    pub(super) fn config(&self) -> Arc<Config> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if self.watched {
            let now = written();
            if now != current.0 {
                current.0 = now;
                match read() {
                    Ok(config) => current.1 = Arc::new(config),
                    Err(error) => {
                        tracing::warn!(target: "mesh::dns", %error, "the resolver's settings cannot be read: the last stay");
                    }
                }
            }
        }
        Arc::clone(&current.1)
    }
}

fn written() -> Written {
    FILES.map(|file| fs::metadata(Path::new(file)).and_then(|about| about.modified()).ok())
}

fn read() -> io::Result<Config> {
    let (config, options) = read_system_conf().map_err(|error| io::Error::other(error.to_string()))?;
    // Without a hosts file there are no hosts in it.
    Config::new(config, options, Hosts::from_system().unwrap_or_default())
}
