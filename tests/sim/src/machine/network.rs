//! A network between machines: connections that keep bytes in order, as TCP does, over links that delay, and stop carrying.
//!
//! A link that is blocked, in one direction or in both, loses nothing: what was sent is carried when it opens again, as TCP
//! sends it again. A process that dies resets its connections. A machine that loses power is not heard of any more; once it
//! is back, it resets what it does not know.

use crate::trace::Trace;
use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The number of a machine on its network.
pub type Address = usize;

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

struct State {
    now: u64,
    rng: StdRng,
    trace: Trace,
    machines: Vec<Machine>,
    lines: BTreeMap<u64, Line>,
    next_line: u64,
    /// By when they arrive, and in the order in which they were sent.
    under_way: BTreeMap<(u64, u64), Packet>,
    sent: u64,
    blocked: BTreeSet<(Address, Address)>,
    held_up: BTreeMap<(Address, Address), Vec<Packet>>,
    slow: BTreeMap<(Address, Address), u64>,
}

#[derive(Default)]
struct Machine {
    /// A machine without power neither answers nor refuses.
    dark: bool,
    listening: Option<Backlog>,
    traced: Detail,
}

/// How much of a packet goes into the trace, beside when it arrived, and where.
#[derive(Clone, Copy, Debug, Default)]
pub enum Detail {
    /// Its bytes.
    #[default]
    Bytes,
    /// Their number.
    Length,
    /// That it was there.
    Existence,
}

#[derive(Default)]
struct Backlog {
    arrived: VecDeque<Stream>,
    waiting: Option<Waker>,
}

/// A connection: the end that asked for it, and the other.
struct Line {
    ends: [End; 2],
}

struct End {
    machine: Address,
    /// Whether somebody holds it.
    held: bool,
    connected: bool,
    received: VecDeque<Bytes>,
    finished: bool,
    reset: bool,
    /// What was sent from here and not read yet over there.
    unread: usize,
    /// When the last packet from here arrives: none overtakes another.
    last_arrival: u64,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Packet {
    line: u64,
    to: usize,
    what: What,
}

enum What {
    Connect,
    Accept,
    Data(Bytes),
    Finish,
    Reset,
}

/// A writer waits while so much is unread.
const WINDOW: usize = 256 << 10;
/// One way between two machines, at least and at most, in milliseconds.
const LATENCY: (u64, u64) = (1, 3);

impl Network {
    /// One without machines.
    pub fn new(seed: u64, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: 0,
            rng: StdRng::seed_from_u64(seed),
            trace,
            machines: Vec::new(),
            lines: BTreeMap::new(),
            next_line: 0,
            under_way: BTreeMap::new(),
            sent: 0,
            blocked: BTreeSet::new(),
            held_up: BTreeMap::new(),
            slow: BTreeMap::new(),
        })))
    }

    /// Adds a machine.
    pub fn attach(&self) -> Address {
        let mut state = self.0.lock();
        state.machines.push(Machine::default());
        state.machines.len() - 1
    }

    /// How much of what this machine says goes into the trace.
    pub fn trace(&self, of: Address, detail: Detail) {
        self.0.lock().machines[of].traced = detail;
    }

    /// Takes connections at this machine until it is dropped.
    pub fn listen(&self, at: Address) -> Listener {
        self.0.lock().machines[at].listening = Some(Backlog::default());
        Listener { network: self.clone(), at }
    }

    /// Connects one machine to another. Never ends where the other one cannot be heard of.
    ///
    /// # Errors
    /// `ConnectionRefused` where nobody listens.
    pub async fn connect(&self, from: Address, to: Address) -> io::Result<Stream> {
        let stream = {
            let mut state = self.0.lock();
            let line = state.next_line;
            state.next_line += 1;
            state.lines.insert(line, Line { ends: [End::at(from, true), End::at(to, false)] });
            state.send(line, 0, What::Connect);
            Stream { network: self.clone(), line, side: 0 }
        };
        poll_fn(|context| {
            let mut state = self.0.lock();
            let end = state.end(stream.line, 0);
            if end.reset {
                Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionRefused)))
            } else if end.connected {
                Poll::Ready(Ok(()))
            } else {
                end.reader = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await?;
        Ok(stream)
    }

    /// Whether nothing is carried from one machine to another from now on. What was held up is sent again.
    pub fn block(&self, from: Address, to: Address, blocked: bool) {
        let mut state = self.0.lock();
        if blocked {
            state.blocked.insert((from, to));
        } else {
            state.blocked.remove(&(from, to));
            for packet in state.held_up.remove(&(from, to)).unwrap_or_default() {
                state.dispatch(packet, (from, to));
            }
        }
    }

    /// Everything from one machine to another takes so much longer from now on, and up to twice that.
    pub fn slow_down(&self, from: Address, to: Address, by_ms: u64) {
        self.0.lock().slow.insert((from, to), by_ms);
    }

    /// The process on this machine is dead. `dark`: the machine as well.
    pub fn die(&self, at: Address, dark: bool) {
        let mut state = self.0.lock();
        state.machines[at].dark = dark;
        let before = state.machines[at].listening.take();
        let mut gone = Vec::new();
        for (id, line) in &mut state.lines {
            for (side, end) in line.ends.iter_mut().enumerate() {
                if end.machine == at && std::mem::take(&mut end.held) {
                    end.received.clear();
                    gone.push((*id, side));
                }
            }
        }
        if !dark {
            for (line, side) in gone {
                state.send(line, side, What::Reset);
            }
        }
        state.forget_dead_lines();
        drop(state);
        // Outside the lock, which the streams in its backlog take when they are dropped.
        drop(before);
    }

    /// The machine has power.
    pub fn light(&self, at: Address) {
        self.0.lock().machines[at].dark = false;
    }

    /// Lets arrive what is due.
    pub fn carry(&self, now: u64) {
        let mut wakers = Vec::new();
        {
            let mut state = self.0.lock();
            state.now = now;
            while let Some(entry) = state.under_way.first_entry()
                && entry.key().0 <= now
            {
                let packet = entry.remove();
                state.arrive(packet, &mut wakers, self);
            }
        }
        wake(wakers);
    }
}

fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

impl State {
    fn end(&mut self, line: u64, side: usize) -> &mut End {
        &mut self.lines.get_mut(&line).expect("the line of a stream that is held").ends[side]
    }

    /// Sends from one end of a line to its other.
    fn send(&mut self, line: u64, from: usize, what: What) {
        let Some(ends) = self.lines.get(&line).map(|line| &line.ends) else { return };
        let way = (ends[from].machine, ends[1 - from].machine);
        self.dispatch(Packet { line, to: 1 - from, what }, way);
    }

    fn dispatch(&mut self, packet: Packet, way: (Address, Address)) {
        let slow = self.slow.get(&way).copied().unwrap_or_default();
        let latency = self.rng.random_range(LATENCY.0..=LATENCY.1)
            + if slow > 0 { self.rng.random_range(slow..=2 * slow) } else { 0 };
        let mut arrival = self.now + latency;
        if let Some(line) = self.lines.get_mut(&packet.line) {
            let last = &mut line.ends[1 - packet.to].last_arrival;
            arrival = arrival.max(*last);
            *last = arrival;
        }
        self.sent += 1;
        self.under_way.insert((arrival, self.sent), packet);
    }

    fn arrive(&mut self, packet: Packet, wakers: &mut Vec<Waker>, network: &Network) {
        let Packet { line: id, to, what } = packet;
        let Some(line) = self.lines.get_mut(&id) else { return };
        let way = (line.ends[1 - to].machine, line.ends[to].machine);
        if self.blocked.contains(&way) {
            self.held_up.entry(way).or_default().push(Packet { line: id, to, what });
            return;
        }
        let now = self.now;
        let detail = self.machines[way.0].traced;
        self.trace.add(format_args!("{now} {}>{} {id} {}", way.0, way.1, what.describe(detail)));
        let machine = &mut self.machines[way.1];
        if machine.dark {
            return;
        }
        let [first, second] = &mut line.ends;
        let end = if to == 0 { first } else { second };
        if let What::Connect = what {
            if let Some(backlog) = &mut machine.listening {
                (end.held, end.connected) = (true, true);
                backlog.arrived.push_back(Stream { network: network.clone(), line: id, side: to });
                wakers.extend(backlog.waiting.take());
                self.send(id, to, What::Accept);
            } else {
                self.send(id, to, What::Reset);
            }
            return;
        }
        if !end.held {
            if !matches!(what, What::Reset | What::Finish) {
                self.send(id, to, What::Reset);
            }
            self.forget_dead_lines();
            return;
        }
        match what {
            What::Connect => {}
            What::Accept => end.connected = true,
            What::Data(bytes) => end.received.push_back(bytes),
            What::Finish => end.finished = true,
            What::Reset => {
                end.reset = true;
                wakers.extend(end.writer.take());
            }
        }
        wakers.extend(end.reader.take());
    }

    fn forget_dead_lines(&mut self) {
        self.lines.retain(|_, line| line.ends.iter().any(|end| end.held));
    }
}

impl End {
    fn at(machine: Address, held: bool) -> Self {
        Self {
            machine,
            held,
            connected: false,
            received: VecDeque::new(),
            finished: false,
            reset: false,
            unread: 0,
            last_arrival: 0,
            reader: None,
            writer: None,
        }
    }
}

impl What {
    fn describe(&self, detail: Detail) -> String {
        match self {
            Self::Connect => "connect".into(),
            Self::Accept => "accept".into(),
            Self::Data(bytes) => match detail {
                Detail::Bytes => {
                    format!("{} bytes {}", bytes.len(), hex::encode(&Sha256::digest(bytes)[..8]))
                }
                Detail::Length => format!("{} bytes", bytes.len()),
                Detail::Existence => "bytes".into(),
            },
            Self::Finish => "finish".into(),
            Self::Reset => "reset".into(),
        }
    }
}

/// Connections to a machine, as they arrive.
pub struct Listener {
    network: Network,
    at: Address,
}

impl Listener {
    /// The next one, and where it comes from.
    pub async fn accept(&mut self) -> (Stream, Address) {
        poll_fn(|context| {
            let mut state = self.network.0.lock();
            // A machine that dies takes its listener along; nothing will arrive at this one.
            let Some(backlog) = &mut state.machines[self.at].listening else { return Poll::Pending };
            let Some(stream) = backlog.arrived.pop_front() else {
                backlog.waiting = Some(context.waker().clone());
                return Poll::Pending;
            };
            let from = state.end(stream.line, 0).machine;
            Poll::Ready((stream, from))
        })
        .await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let backlog = self.network.0.lock().machines[self.at].listening.take();
        // Outside the lock, which the streams in it take when they are dropped.
        drop(backlog);
    }
}

/// One end of a connection.
pub struct Stream {
    network: Network,
    line: u64,
    side: usize,
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.network.0.lock();
        let Some(line) = state.lines.get_mut(&self.line) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let [first, second] = &mut line.ends;
        let (end, far) = if self.side == 0 { (first, second) } else { (second, first) };
        let Some(bytes) = end.received.front_mut() else {
            if end.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if end.finished {
                return Poll::Ready(Ok(()));
            }
            end.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        let taken = bytes.len().min(buffer.remaining());
        buffer.put_slice(&bytes[..taken]);
        bytes.advance(taken);
        if bytes.is_empty() {
            end.received.pop_front();
        }
        far.unread = far.unread.saturating_sub(taken);
        let writer = far.writer.take();
        drop(state);
        wake(writer.into_iter().collect());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.network.0.lock();
        let Some(line) = state.lines.get_mut(&self.line) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let end = &mut line.ends[self.side];
        if end.reset {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if end.unread >= WINDOW {
            end.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        end.unread += bytes.len();
        state.send(self.line, self.side, What::Data(Bytes::copy_from_slice(bytes)));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.network.0.lock().send(self.line, self.side, What::Finish);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.network.0.lock();
        let Some(line) = state.lines.get_mut(&self.line) else { return };
        let end = &mut line.ends[self.side];
        // A machine that died let go of it already, and said what there was to say.
        if !std::mem::take(&mut end.held) {
            return;
        }
        (end.reader, end.writer) = (None, None);
        if !end.reset {
            state.send(self.line, self.side, What::Finish);
        }
        state.forget_dead_lines();
    }
}

impl tonic::transport::server::Connected for Stream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl hyper_util::client::legacy::connect::Connection for Stream {
    fn connected(&self) -> hyper_util::client::legacy::connect::Connected {
        hyper_util::client::legacy::connect::Connected::new()
    }
}
