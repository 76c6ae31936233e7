//! One process of a fleet: started, listened to, signalled, and ended with its test.

use crate::until;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

/// A process that this test started. Dropping it ends it; when the test fails, what it printed is shown.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<Vec<Line>>>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Clone, Debug)]
struct Line {
    stream: Stream,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

impl Process {
    /// Starts `command` without the settings that somebody's environment may hold for processes of their own.
    pub(crate) fn start(name: impl Into<String>, command: &mut Command) -> Self {
        Self::start_reading(Stdio::null(), name, command)
    }

    /// Starts a program that goes on until its standard input ends: when it is [let go](Self::let_go), or this process is
    /// gone, however that came about.
    pub fn start_held(name: impl Into<String>, command: &mut Command) -> Self {
        Self::start_reading(Stdio::piped(), name, command)
    }

    fn start_reading(input: Stdio, name: impl Into<String>, command: &mut Command) -> Self {
        let name = name.into();
        let wanted: Vec<_> = command.get_envs().map(|(variable, _)| variable.to_owned()).collect();
        for (variable, _) in std::env::vars_os().filter(|(variable, _)| !wanted.contains(variable)) {
            let text = variable.to_string_lossy();
            if ["LEASEHOLD_", "SITE_", "AWS_", "RUST_LOG"].iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&variable);
            }
        }
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
        let output = Arc::new(Mutex::new(Vec::new()));
        let readers = [
            child.stdout.take().map(|pipe| read_lines(pipe, Stream::Stdout, output.clone())),
            child.stderr.take().map(|pipe| read_lines(pipe, Stream::Stderr, output.clone())),
        ];
        let readers = readers.into_iter().flatten().collect();
        Self { name, child, output, readers }
    }

    /// Waits for a line on stdout that `pick` takes something from.
    ///
    /// # Panics
    /// When the process ends first, or none comes within a minute.
    pub(crate) async fn announced<T>(&mut self, pick: impl Fn(&str) -> Option<T>) -> T {
        let announced = self.announced_unless_ended(pick).await;
        announced.unwrap_or_else(|status| panic!("{} ended before it listened: {status}", self.name))
    }

    /// The same, or how the process has ended first.
    pub(crate) async fn announced_unless_ended<T>(
        &mut self,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ExitStatus> {
        let what = format!("{} says where it listens", self.name);
        until(&what, Duration::from_secs(60), async || {
            let status = self.has_ended();
            let found = self
                .lines()
                .iter()
                .filter(|line| line.stream == Stream::Stdout)
                .find_map(|line| pick(&line.text));
            found.map(Ok).or(status.map(Err))
        })
        .await
    }

    /// Waits until it has printed, on either stream, a line that holds `text`; gives that line.
    ///
    /// # Panics
    /// When none comes within `limit`.
    pub async fn printed(&self, text: &str, limit: Duration) -> String {
        until(&format!("{} prints {text:?}", self.name), limit, async || {
            self.lines().into_iter().find(|line| line.text.contains(text)).map(|line| line.text)
        })
        .await
    }

    /// Ends it at once, as `kill -9` does: nothing of it runs any more when this returns.
    pub fn kill(&mut self) {
        // Of a process that has ended already, neither has an effect.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }

    /// Freezes it, as a Lambda is between invocations.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it run on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to stop, as an orchestrator does.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends the standard input of a program that was started [held](Self::start_held).
    pub fn let_go(&mut self) {
        drop(self.child.stdin.take());
    }

    /// What it has printed so far, on both streams.
    pub fn output(&self) -> Vec<String> {
        self.lines().into_iter().map(|line| line.text).collect()
    }

    /// How it has ended, where it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it goes on for longer than `limit`.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        until(&what, limit, async || self.has_ended()).await
    }

    /// Not reaped before [`kill`](Self::kill), [`ended`](Self::ended) or [`has_ended`](Self::has_ended), the id is this
    /// child's and nobody else's.
    fn signal(&self, signal: Signal) {
        let sent = kill_process(Pid::from_child(&self.child), signal);
        assert!(sent.is_ok(), "{}: {signal:?}: {sent:?}", self.name);
    }

    fn lines(&self) -> Vec<Line> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL reaches a frozen process too.
        self.kill();
        if std::thread::panicking() {
            let lines = self.lines();
            eprintln!("--- {} printed {} lines", self.name, lines.len());
            for line in lines.iter().skip(lines.len().saturating_sub(200)) {
                eprintln!("{}: {}", self.name, line.text);
            }
        }
    }
}

/// Reads to the end, so that the process never blocks on a full pipe.
fn read_lines(
    pipe: impl Read + Send + 'static,
    stream: Stream,
    output: Arc<Mutex<Vec<Line>>>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for text in BufReader::new(pipe).lines().map_while(Result::ok) {
            output.lock().unwrap_or_else(PoisonError::into_inner).push(Line { stream, text });
        }
    })
}
