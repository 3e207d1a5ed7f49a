//! The servers beside ours: nginx of Debian, and s3s-fs, the small server of the S3 library that
//! ours parses with. Neither encrypts. Installed by the bench alone, in a folder beside the target's.

use super::objects::{BUCKET, Requests, Server};
use crate::{proc, setup};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const S3S_FS: &str = "0.14.1";

/// Where they are.
pub(super) struct Programs {
    nginx: PathBuf,
    s3s_fs: PathBuf,
}

/// Installs what is missing: the first run takes minutes.
pub(super) fn install() -> Result<Programs> {
    let folder = setup::beside_target("keystead-bench-tools");
    fs::create_dir_all(&folder)?;
    let nginx = folder.join("usr/sbin/nginx");
    if !nginx.exists() {
        println!("unpacking nginx into {}", folder.display());
        // Unpacked, not installed: Debian's package would start a server on port 80.
        let apt = |args: &[&str]| {
            proc::output(
                Command::new("apt-get")
                    .args(["-q", "-o", "APT::Sandbox::User=root"])
                    .args(args)
                    .current_dir(&folder),
            )
        };
        apt(&["update"])?;
        apt(&["download", "nginx"])?;
        for entry in fs::read_dir(&folder)?.flatten() {
            if entry.path().extension().is_some_and(|e| e == "deb") {
                proc::output(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(&folder))?;
                fs::remove_file(entry.path())?;
            }
        }
    }
    let s3s_fs = folder.join("bin/s3s-fs");
    if !s3s_fs.exists() {
        println!("building s3s-fs into {}", folder.display());
        let build = folder.join("build");
        proc::status(
            proc::cargo(&["install", "s3s-fs", "--version", S3S_FS, "--features", "binary"])
                .args(["--locked", "--root"])
                .arg(&folder)
                .env("CARGO_TARGET_DIR", &build),
        )?;
        fs::remove_dir_all(&build).with_context(|| format!("delete {}", build.display()))?;
    }
    Ok(Programs { nginx, s3s_fs })
}

/// A server on core 0 that ends with this.
struct Process(Child);

impl Process {
    fn start(program: &Path, args: &[&str], address: &str) -> Result<Self> {
        let child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut process = Self(child);
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = process.0.try_wait()?;
            let late = begun.elapsed() > Duration::from_secs(10);
            ensure!(ended.is_none() && !late, "{} does not come up", program.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr()?.to_string())
}

/// Static GET and dav PUT.
pub(super) struct Nginx {
    process: Process,
    address: String,
}

impl Nginx {
    pub(super) fn start(programs: &Programs, folder: &Path) -> Result<Self> {
        let root = folder.join("nginx");
        fs::create_dir_all(root.join("objects"))?;
        let (address, at) = (free_address()?, root.display());
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log; user root;
events {{ }}
http {{
  access_log off; client_max_body_size 1g; client_body_temp_path {at}/body; tcp_nodelay on;
  proxy_temp_path {at}/t; fastcgi_temp_path {at}/t; uwsgi_temp_path {at}/t; scgi_temp_path {at}/t;
  server {{
    listen {address};
    location /objects/ {{ root {at}; sendfile off; dav_methods PUT; }}
    location /sendfile/ {{ alias {at}/objects/; sendfile on; }}
  }}
}}
"
        );
        let file = root.join("nginx.conf");
        fs::write(&file, config)?;
        let (file, prefix) = (file.display().to_string(), at.to_string());
        let log = root.join("error.log").display().to_string();
        let args = ["-c", &file, "-p", &prefix, "-e", &log];
        Ok(Self { process: Process::start(&programs.nginx, &args, &address)?, address })
    }

    /// Two, of one process: each GET of a file copied by the server, and by the kernel alone.
    pub(super) fn servers(&self, keys: usize, size: usize) -> [Server; 2] {
        let requests = |method: &str, folder: &str, more: &str| -> Requests {
            let host = &self.address;
            let head =
                |n| format!("{method} /{folder}/o{n} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n");
            (0..keys).map(|n| head(n).into_bytes()).collect()
        };
        let server = |name, put, get| {
            let (pid, address) = (self.process.0.id().to_string(), self.address.clone());
            Server { name, pid, address, put, get }
        };
        let put = requests("PUT", "objects", &format!("content-length: {size}\r\n"));
        [
            server("nginx", put, requests("GET", "objects", "")),
            server("nginx, sendfile", Vec::new(), requests("GET", "sendfile", "")),
        ]
    }
}

/// An S3 over plain files.
pub(super) struct S3sFs {
    process: Process,
    pub(super) address: String,
}

impl S3sFs {
    pub(super) fn start(
        programs: &Programs,
        folder: &Path,
        id: &str,
        secret: &str,
    ) -> Result<Self> {
        let root = folder.join("s3s-fs");
        fs::create_dir_all(root.join(BUCKET))?;
        let address = free_address()?;
        let (host, port) = address.split_once(':').context("an address")?;
        let root = root.display().to_string();
        // The secret is this run's own, of a cluster that ends with it.
        let args =
            ["--host", host, "--port", port, "--access-key", id, "--secret-key", secret, &root];
        Ok(Self { process: Process::start(&programs.s3s_fs, &args, &address)?, address })
    }

    pub(super) fn pid(&self) -> String {
        self.process.0.id().to_string()
    }
}
