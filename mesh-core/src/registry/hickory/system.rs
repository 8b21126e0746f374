//! The operating system's settings, read anew when they change.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use hickory_resolver::{
    Hosts,
    config::{ResolverConfig, ResolverOpts},
};

use super::Config;

/// What lookups go by, now.
pub(super) struct System {
    files: Option<Files>,
    current: Mutex<(Written, Arc<Config>)>,
}

/// Where the settings lie.
pub(super) struct Files {
    pub(super) resolv_conf: PathBuf,
    pub(super) hosts: PathBuf,
}

/// When each file was written.
type Written = [Option<SystemTime>; 2];

impl System {
    pub(super) fn read() -> io::Result<Self> {
        Self::read_from(Files { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into() })
    }

    pub(super) fn read_from(files: Files) -> io::Result<Self> {
        let current = Mutex::new((files.written(), Arc::new(files.read()?)));
        Ok(Self { files: Some(files), current })
    }

    /// This and no other.
    pub(super) fn given(config: Config) -> Self {
        Self { files: None, current: Mutex::new(([None; 2], Arc::new(config))) }
    }

    /// As glibc does (res_init since 2.26, nss_files), the files are looked at before each lookup; one that cannot be read
    /// or has no name server changes nothing.
    pub(super) fn config(&self) -> Arc<Config> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(files) = &self.files {
            let written = files.written();
            if written != current.0 {
                current.0 = written;
                match files.read() {
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

impl Files {
    fn written(&self) -> Written {
        [&self.resolv_conf, &self.hosts].map(|file| fs::metadata(file).and_then(|about| about.modified()).ok())
    }

    fn read(&self) -> io::Result<Config> {
        let (config, options) = self.settings()?;
        Config::new(config, options, self.hosts())
    }

    #[cfg(all(unix, not(any(target_os = "android", target_vendor = "apple"))))]
    fn settings(&self) -> io::Result<(ResolverConfig, ResolverOpts)> {
        let parsed = hickory_resolver::system_conf::parse_resolv_conf(fs::read(&self.resolv_conf)?);
        parsed.map_err(|error| io::Error::other(error.to_string()))
    }

    /// Elsewhere the system tells.
    #[cfg(not(all(unix, not(any(target_os = "android", target_vendor = "apple")))))]
    fn settings(&self) -> io::Result<(ResolverConfig, ResolverOpts)> {
        hickory_resolver::system_conf::read_system_conf().map_err(|error| io::Error::other(error.to_string()))
    }

    /// Without a hosts file there are no hosts in it.
    fn hosts(&self) -> Hosts {
        if cfg!(windows) {
            return Hosts::from_system().unwrap_or_default();
        }
        let mut hosts = Hosts::default();
        // What was read before an error counts.
        let _ = fs::File::open(&self.hosts).and_then(|file| hosts.read_hosts_conf(file));
        hosts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_test::Scratch;

    use super::*;

    /// Files with a time of their own: two that are written at once are two.
    fn write(files: &Files, at: u64, resolv_conf: &str, hosts: &str) {
        for (file, text) in [(&files.resolv_conf, resolv_conf), (&files.hosts, hosts)] {
            fs::write(file, text).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
            fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
        }
    }

    #[tokio::test]
    async fn settings_are_read_anew_when_they_change_and_stay_when_they_cannot() {
        let scratch = Scratch::new();
        let files = || Files { resolv_conf: scratch.path().join("resolv.conf"), hosts: scratch.path().join("hosts") };
        let names = |system: &System, host: &str| -> Vec<String> {
            system.config().search.names(host).unwrap().iter().map(|name| name.to_ascii()).collect()
        };
        assert!(System::read_from(files()).is_err(), "there is no resolv.conf");
        write(&files(), 1, "search a.test b.test\nnameserver 127.0.0.1\noptions ndots:2\n", "127.0.0.7 db\n");
        let system = System::read_from(files()).unwrap();
        // resolv.conf(5): one dot is fewer than ndots:2, so the search list comes first.
        assert_eq!(names(&system, "x.y"), ["x.y.a.test.", "x.y.b.test.", "x.y."]);
        let first = system.config();
        assert!(Arc::ptr_eq(&first, &system.config()), "nothing changed");
        write(&files(), 2, "search c.test\nnameserver 127.0.0.1\n", "127.0.0.8 db\n");
        assert_eq!(names(&system, "x"), ["x.c.test.", "x."]);
        let found = system.config().resolve("db").await.unwrap();
        assert_eq!(found, crate::registry::Answer::addresses([[127, 0, 0, 8].into()]));
        write(&files(), 3, "# no server\n", "");
        assert_eq!(names(&system, "x"), ["x.c.test.", "x."]);
    }
}
