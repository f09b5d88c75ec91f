//! The workers' streams: messages in order on each, in any order between them, lost with the stream, and ends that each side
//! notices in its own time.

use std::collections::VecDeque;

use framewright_core::engine::interface::Event as Told;
use framewright_core::names::{PoolName, WorkerRef};
use framewright_core::workers::sessions::Greeting;
use framewright_crds::modelpool::Device;
use framewright_crds::protocol::{Command, OperatorMessage, SILENCE_SECONDS, WorkerMessage};
use framewright_queue::Event;

use crate::api::Millis;
use crate::world::{Happening, World};

/// Either side takes a silent stream for dead after this long.
const SILENCE: Millis = 1000 * SILENCE_SECONDS.cast_signed();

pub(crate) struct Stream {
    pub operator: usize,
    life: u64,
    epoch: u64,
    worker: WorkerRef,
    pool: PoolName,
    process: u64,
    /// Whether the Hello has arrived.
    is_open: bool,
    up: VecDeque<WorkerMessage>,
    down: VecDeque<Command>,
    /// The operator has ended it.
    pub is_closed: bool,
    is_worker_there: bool,
    pub is_operator_there: bool,
    /// Nothing gets through any more, and neither side knows.
    is_cut: bool,
    is_down_due: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Worker,
    Operator,
}

impl Stream {
    /// Whether its operator hears this pod on it in this term.
    pub(crate) fn is_heard_from(&self, pod: &str, epoch: Option<u64>) -> bool {
        let is_of_term = epoch == Some(self.epoch);
        is_of_term
            && self.worker.uid == pod
            && self.is_operator_there
            && self.is_open
            && !self.is_cut
    }
}

impl Stream {
    /// An order, or the stream's end; on one that is cut, only the operator's own end is seen, and by the operator alone.
    fn has_something_to_carry(&self) -> bool {
        if self.is_cut {
            return self.is_operator_there && self.is_closed;
        }
        !self.is_operator_there || self.is_closed || !self.down.is_empty()
    }
}

impl World {
    /// A worker dials the Service, which leads to the newest leader, or for a while still to one that was overthrown.
    pub(crate) fn dial(&mut self, pod: &str, process: u64) {
        let Some(worker) = self.workers.get(pod) else {
            return;
        };
        if !worker.is_up || worker.process != process || worker.stream.is_some() {
            return;
        }
        let (me, pool) = (worker.me.clone(), worker.pool.clone());
        let believers: Vec<usize> = (0..self.operators.len())
            .filter(|&index| self.operators[index].term.is_some())
            .collect();
        let is_astray = self.is_stormy() && !believers.is_empty() && self.chance.percent(15);
        let target = if is_astray {
            Some(*self.chance.of(&believers))
        } else {
            self.leader()
        };
        let Some(index) = target else {
            return self.redial(pod, process);
        };
        let id = self.serial();
        let operator = &self.operators[index];
        let stream = Stream {
            operator: index,
            life: operator.life,
            epoch: operator.epoch().unwrap_or_default(),
            worker: me,
            pool,
            process,
            is_open: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
            is_closed: false,
            is_worker_there: true,
            is_operator_there: true,
            is_cut: false,
            is_down_due: false,
        };
        self.streams.insert(id, stream);
        self.note(|| format!("worker {pod} dials operator {index}, stream {id}"));
        self.connected(pod, id);
    }

    fn redial(&mut self, pod: &str, process: u64) {
        let wait = self.chance.between(200, 2000);
        let pod = pod.to_owned();
        self.after(wait, Happening::Dial { pod, process });
    }

    /// A worker says something on its stream.
    pub(crate) fn say(&mut self, pod: &str, message: WorkerMessage) {
        let Some(id) = self.workers.get(pod).and_then(|worker| worker.stream) else {
            return;
        };
        let twice = self.is_stormy() && self.chance.percent(3);
        let is_hello = matches!(message, WorkerMessage::Hello(_));
        let wait = self.travel();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if twice && !is_hello {
            stream.up.push_back(message.clone());
            self.after(wait, Happening::Up { stream: id });
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.up.push_back(message);
        }
        self.after(wait, Happening::Up { stream: id });
    }

    fn travel(&mut self) -> Millis {
        if self.is_stormy() && self.chance.percent(5) {
            self.chance.between(10, 3000)
        } else {
            self.chance.between(1, 20)
        }
    }

    /// The oldest message of a stream arrives at its operator.
    pub(crate) fn up(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let index = stream.operator;
        let is_there = stream.is_operator_there && self.operators[index].life == stream.life;
        if !is_there || stream.is_cut {
            return;
        }
        let Some(message) = stream.up.pop_front() else {
            if !stream.is_worker_there {
                self.notice(id, Side::Operator);
            }
            return;
        };
        let (uid, pool, epoch) = (stream.worker.uid.clone(), stream.pool.clone(), stream.epoch);
        if self.operators[index].epoch() != Some(epoch) {
            return self.notice(id, Side::Operator);
        }
        self.note(|| format!("operator {index} hears on stream {id} of {uid}: {message:?}"));
        // What comes late on a stream that was replaced counts for nothing.
        let mut newer = self.streams.range(id + 1..);
        if !newer
            .any(|(_, newer)| newer.operator == index && newer.is_heard_from(&uid, Some(epoch)))
        {
            self.learned(index, &uid, &message);
        }
        if let WorkerMessage::Hello(hello) = message {
            let Some(stream) = self.streams.get_mut(&id) else {
                return;
            };
            if std::mem::replace(&mut stream.is_open, true) {
                return;
            }
            let greeting = Greeting {
                worker: stream.worker.clone(),
                pool,
                device: Device::Cpu,
                device_error: hello.device_error,
                slots: hello.slots,
                pipelines: hello.pipelines,
                loaded: hello.loaded,
                tasks: hello.tasks,
            };
            let session = id;
            self.inform(index, Told::SessionOpened { session, greeting });
        } else {
            let told = Told::SessionMessage {
                session: id,
                worker_uid: uid.clone(),
                message,
            };
            self.inform(index, told);
        }
        self.pump(index);
        let is_ending = self
            .streams
            .get(&id)
            .is_some_and(|stream| !stream.is_worker_there && stream.up.is_empty());
        if is_ending {
            self.after(1, Happening::Up { stream: id });
        }
    }

    /// An operator gives a command in a session.
    pub(crate) fn command(&mut self, index: usize, session: u64, command: Command) {
        let Some(stream) = self
            .streams
            .get(&session)
            .filter(|stream| stream.is_operator_there)
        else {
            return;
        };
        let pod = stream.worker.uid.clone();
        if let Command::Run(order) = &command {
            self.ordered(index, &pod, order);
        }
        if let Some(stream) = self.streams.get_mut(&session) {
            stream.down.push_back(command);
        }
        self.pump(index);
    }

    /// Sets out what an operator's streams have to carry down.
    pub(crate) fn pump(&mut self, index: usize) {
        let due: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.operator == index && !stream.is_down_due)
            .filter(|(_, stream)| stream.has_something_to_carry())
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let wait = self.travel();
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.is_down_due = true;
            }
            self.after(wait, Happening::Down { stream: id });
        }
    }

    /// The oldest order of a stream arrives at its worker.
    pub(crate) fn down(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.is_down_due = false;
        let is_there = stream.is_operator_there;
        let (pod, process, epoch) = (stream.worker.uid.clone(), stream.process, stream.epoch);
        if stream.is_cut {
            if stream.is_closed {
                self.notice(id, Side::Operator);
            }
            return;
        }
        if !is_there {
            return self.notice(id, Side::Worker);
        }
        match stream.down.pop_front() {
            Some(command) => {
                let is_listening = stream.is_worker_there
                    && self
                        .workers
                        .get(&pod)
                        .is_some_and(|worker| worker.is_up && worker.process == process);
                if is_listening {
                    self.hear(&pod, OperatorMessage { epoch, command });
                }
                let index = self.streams.get(&id).map(|stream| stream.operator);
                if let Some(index) = index {
                    self.pump(index);
                }
            }
            None if !stream.is_closed => {}
            // Replaced by a newer one, or the operator leads no more.
            None => {
                self.notice(id, Side::Operator);
                self.notice(id, Side::Worker);
            }
        }
    }

    /// One side learns that the stream has ended.
    pub(crate) fn notice(&mut self, id: u64, side: Side) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let (pod, process, index) = (stream.worker.uid.clone(), stream.process, stream.operator);
        match side {
            Side::Worker => {
                stream.is_worker_there = false;
                if let Some(worker) = self.workers.get_mut(&pod)
                    && worker.stream == Some(id)
                {
                    worker.stream = None;
                    self.redial(&pod, process);
                    self.tell(&pod, Event::Disconnected);
                }
                self.after(1, Happening::Up { stream: id });
            }
            Side::Operator if stream.is_operator_there => {
                stream.is_operator_there = false;
                let is_same = self.operators[index].life == stream.life;
                // Nobody was heard on one whose Hello is still on its way, nor is anybody on one of an earlier term.
                let is_of_term = self.operators[index].epoch() == Some(stream.epoch);
                if stream.is_open && is_of_term {
                    self.parted(index, &pod);
                }
                if is_same {
                    let worker_uid = pod.clone();
                    self.inform(
                        index,
                        Told::SessionClosed {
                            session: id,
                            worker_uid,
                        },
                    );
                }
                self.pump(index);
            }
            Side::Operator => {}
        }
        self.streams
            .retain(|_, stream| stream.is_worker_there || stream.is_operator_there);
    }

    /// The worker's end closes: what it said last may still arrive.
    pub(crate) fn hang_up(&mut self, id: u64) {
        let loses = self.chance.percent(50);
        if let Some(stream) = self.streams.get_mut(&id) {
            if loses {
                stream.up.clear();
            }
            self.note(|| format!("stream {id} is left by its worker"));
            self.notice(id, Side::Worker);
        }
    }

    /// Nothing gets through any more; each side notices within the limit for silence.
    pub(crate) fn cut(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.is_cut = true;
        self.note(|| format!("stream {id} is cut"));
        for side in [Side::Worker, Side::Operator] {
            let wait = self.chance.between(0, SILENCE);
            self.after(wait, Happening::Notice { stream: id, side });
        }
    }
}
