//! Processes of the program that end with their test, and waiting for what they say.

use serde_json::Value;
use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};
use tempfile::TempDir;

pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_leasehold");
/// Only ever reached by a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program, without what the test's own environment would tell it.
pub(crate) fn program<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    clean(Command::new(EXE), args)
}

pub(crate) fn clean<A: AsRef<OsStr>>(mut command: Command, args: impl IntoIterator<Item = A>) -> Command {
    let ours = |name: &OsStr| {
        let name = name.to_string_lossy();
        ["LEASEHOLD_", "OTEL_", "CARGO"].iter().any(|ours| name.starts_with(ours))
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process that is killed when its test is over.
pub(crate) struct Process {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// The next line on stdout.
    pub(crate) fn line(&self) -> String {
        self.stdout.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line came; {:?}", self.errors()))
    }

    /// The next line on stdout, as JSON.
    pub(crate) fn json_line(&self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Reads on stderr up to a line with this in it.
    pub(crate) fn wait_for_log(&self, part: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{part} was not logged"));
            if line.contains(part) {
                return line;
            }
        }
    }

    /// What is on stderr so far.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.stderr.try_iter().collect()
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end, which closes its output, and for no longer than this.
    pub(crate) fn end_within(&mut self, limit: Duration) -> ExitStatus {
        loop {
            match self.stdout.recv_timeout(limit) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => panic!("still runs after {limit:?}: {:?}", self.errors()),
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A coordinator on a port and in a directory of its own.
pub(crate) struct Coordinator {
    pub(crate) process: Process,
    pub(crate) endpoint: String,
    pub(crate) banner: Vec<String>,
    pub(crate) dir: TempDir,
}

impl Coordinator {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), args)
    }

    pub(crate) fn start_in(dir: TempDir, args: &[&str]) -> Self {
        let command = serving(dir.path(), args);
        Self::started(dir, command)
    }

    /// Waits until it says that it listens.
    pub(crate) fn started(dir: TempDir, command: Command) -> Self {
        let process = Process::start(command);
        let mut banner = vec![process.line()];
        while !banner[banner.len() - 1].starts_with("Ctrl-C") {
            banner.push(process.line());
        }
        let address = banner[0].strip_prefix("Leasehold listens on ").and_then(|rest| rest.split(';').next());
        let endpoint = format!("http://{}", address.unwrap());
        Self { process, endpoint, banner, dir }
    }

    /// The URL of its admin port.
    pub(crate) fn admin(&self) -> &str {
        let said = self.banner.iter().find_map(|line| line.split_once("admin port, which is private: "));
        said.expect("an admin port").1.trim_end_matches('/')
    }

    /// What its admin port answers: the status, and what it says.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(self.admin(), path)
    }

    /// The same, as JSON.
    pub(crate) fn get_json(&self, path: &str) -> Value {
        let (status, text) = self.get(path);
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// A command for this coordinator.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = program(line.split_whitespace());
        command.env("LEASEHOLD_ENDPOINT", &self.endpoint);
        command
    }

    pub(crate) fn run(&self, line: &str) -> Ended {
        Ended::of(self.command(line), "")
    }

    /// With this on its stdin.
    pub(crate) fn run_with(&self, line: &str, stdin: &str) -> Ended {
        Ended::of(self.command(line), stdin)
    }

    /// Its one JSON object, where it exits with this.
    pub(crate) fn json(&self, line: &str, code: i32) -> Value {
        let ended = self.run(&format!("{line} --json"));
        assert_eq!(ended.code, Some(code), "{line}: {ended:?}");
        ended.json()
    }

    /// Commits a page from stdin.
    pub(crate) fn commit(&self, line: &str, html: &str) -> Value {
        let ended = self.run_with(&format!("commit --html - {line} --json"), html);
        assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
        ended.json()
    }

    /// A command that goes on.
    pub(crate) fn spawn(&self, line: &str) -> Process {
        Process::start(self.command(line))
    }
}

/// What an HTTP server answers: the status, and what it says.
pub(crate) fn get(url: &str, path: &str) -> (u16, String) {
    let address = url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(!head.contains("transfer-encoding"), "{head}");
    (status, body.to_owned())
}

/// `leasehold` on a free port, with its data in this directory.
pub(crate) fn serving(dir: &Path, args: &[&str]) -> Command {
    let mut command = program(["--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(dir.join("data")).args(args);
    command
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(mut command: Command, stdin: &str) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        // One that ends without reading it is none of our business here.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The names of an object's keys, sorted.
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}
