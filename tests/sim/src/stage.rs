//! What every simulation stands on: the services, and coordinators on them. Who asks them is up to the play.

use crate::{
    machine::{Address, Context, Detail, Machines, Network, derived},
    parts::{
        coordinator,
        services::{self, Services, Whereabouts},
    },
    trace::Trace,
};
use leasehold_aws::Service;
use parking_lot::Mutex;
use std::sync::Arc;

/// Services that nothing goes wrong with yet, and coordinators that have just started.
pub struct Stage {
    /// All machines.
    pub machines: Machines,
    /// DynamoDB and S3.
    pub services: Services,
    /// Where these are.
    pub whereabouts: Whereabouts,
    /// Where the coordinators are.
    pub coordinators: Vec<Address>,
}

/// What somebody on the stage has come to; `None` as long as it has not ended. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Part<T> {
    /// The machine that it is played on.
    pub machine: Address,
    result: Arc<Mutex<Option<T>>>,
}

impl<T> Part<T> {
    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.result.lock().is_some()
    }

    /// What it has come to.
    ///
    /// # Panics
    /// When it has not ended, or was taken before.
    pub fn take(&self) -> T {
        self.result.lock().take().expect("a part that has ended")
    }
}

impl Stage {
    /// With a coordinator for each of these clocks, which are wrong by so many milliseconds.
    ///
    /// # Panics
    /// When table and bucket cannot be created.
    pub fn new(seed: u64, clocks: &[i64], trace: &Trace) -> Self {
        let network = Network::new(derived(seed, &[1]), trace.clone());
        let mut machines = Machines::new(seed, network);
        let services = Services::new();
        let whereabouts = Whereabouts {
            dynamodb: machines.add("dynamodb", services.software(Service::DynamoDb)),
            s3: machines.add("s3", services.software(Service::S3)),
        };
        for service in [whereabouts.dynamodb, whereabouts.s3] {
            // In what order an item's attributes are written, std draws anew for each process.
            machines.network.trace(service, Detail::Length);
            machines.start(service);
        }
        create_stores(&mut machines, whereabouts);
        let coordinators: Vec<_> = (0..clocks.len())
            .map(|number| machines.add(format!("coordinator {number}"), coordinator::software(whereabouts)))
            .collect();
        for (coordinator, wrong_by) in coordinators.iter().zip(clocks) {
            // hyper puts the date of the machine that it really runs on into answers; and what is asked of a service has
            // the attributes of items in it.
            machines.network.trace(*coordinator, Detail::Existence);
            machines.set_wrong(*coordinator, *wrong_by);
            machines.start(*coordinator);
        }
        Self { machines, services, whereabouts, coordinators }
    }

    /// Lets somebody play a part on a machine of their own, from now on.
    pub fn play<T, F>(&mut self, name: &str, part: impl Fn(Context) -> F + 'static) -> Part<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let result = Arc::new(Mutex::new(None));
        let told = result.clone();
        let machine = self.machines.add(
            name,
            Box::new(move |context| {
                let (playing, told) = (part(context), told.clone());
                Box::pin(async move { *told.lock() = Some(playing.await) })
            }),
        );
        self.machines.start(machine);
        Part { machine, result }
    }

    /// Lets so many milliseconds pass.
    pub fn pass(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.machines.step();
        }
    }

    /// Lets time pass until something is the case, at most so many milliseconds. Returns how many it took.
    ///
    /// # Panics
    /// When it is not the case by then.
    #[track_caller]
    pub fn until(&mut self, within: u64, is_so: impl Fn(&Self) -> bool) -> u64 {
        let begun = self.machines.time.now();
        while !is_so(self) {
            assert!(self.machines.time.now() < begun + within, "still not so after {within} ms");
            self.machines.step();
        }
        self.machines.time.now() - begun
    }

    /// Lets time pass until a part has ended, at most so many milliseconds. What it has come to, and how many it took.
    ///
    /// # Panics
    /// When it has not ended by then.
    #[track_caller]
    pub fn end_of<T>(&mut self, part: &Part<T>, within: u64) -> (T, u64) {
        let took = self.until(within, |_| part.is_over());
        (part.take(), took)
    }
}

fn create_stores(machines: &mut Machines, services: Whereabouts) {
    let creator = machines.add(
        "creator",
        Box::new(move |context| {
            Box::pin(async move {
                let created = services::connect(&context, services).init().await;
                created.expect("create table and bucket where nothing goes wrong");
            })
        }),
    );
    machines.start(creator);
    while machines.is_running(creator) {
        machines.step();
    }
}
