//! Requests to the API server: slow, lost, or answered to nobody.

use framewright_core::engine::interface::{Answer, Event, Request, RequestId};
use framewright_core::names::{ObjectName, WorkerRef};
use framewright_core::pools::pod::pool_of;
use framewright_crds::names::LABEL_POOL;
use jiff::Timestamp;
use kube_core::ResourceExt;

use crate::api::{Millis, Refused, at, name_of};
use crate::kubelet::pod_of;
use crate::watches::is_unreadable;
use crate::world::{Happening, World};

/// An answer that has not come by then never comes.
const ANSWER_LIMIT: Millis = 5000;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lands,
    /// It never arrives.
    Lost,
    /// It arrives, and the answer does not.
    AnswerLost,
    /// It is not done, and the API server says that something failed.
    Fails,
    /// It is done, and the API server says that something failed.
    DoneButFails,
    /// Something on the way repeats it, and the second answer is the one that arrives.
    Twice,
    /// It arrives when nobody waits for its answer any more.
    Late,
    /// It arrives once more when it is answered already.
    Again,
    /// A late arrival, or a second one.
    Unheard,
}

/// What the API server refuses for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refuses {
    MakingPods,
    DeletingPods,
    Jobs,
    Pools,
    Everything,
}

impl Refuses {
    fn covers(self, request: &Request) -> bool {
        match self {
            Refuses::MakingPods => matches!(request, Request::CreatePod(_)),
            Refuses::DeletingPods => matches!(request, Request::DeletePod(_)),
            Refuses::Jobs => matches!(request, Request::WriteJob(_) | Request::DeleteJob { .. }),
            Refuses::Pools => matches!(request, Request::WritePool(_)),
            Refuses::Everything => true,
        }
    }
}

/// Who sent a request, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub operator: usize,
    pub life: u64,
    pub epoch: u64,
    pub sent_at: Millis,
    /// By the operator's own clock.
    pub wall: Timestamp,
    /// Something on the way has made a second one of it, or kept it for long.
    pub is_copy: bool,
    /// The operator hears what came of it.
    pub is_answered: bool,
}

/// A request on its way to the API server.
pub(crate) struct Sent {
    pub sender: Sender,
    pub id: RequestId,
    pub request: Request,
    pub fate: Fate,
    /// What it closes without a reason.
    pub unfounded: Option<String>,
    /// How many pods the pool was to have when one more was asked for.
    pub wanted: usize,
}

impl World {
    pub(crate) fn send_request(
        &mut self,
        index: usize,
        id: RequestId,
        epoch: u64,
        request: Request,
    ) {
        let is_of_term = self.operators[index].epoch() == Some(epoch);
        if !is_of_term {
            // Never sent. The engine has forgotten it with its term.
            return;
        }
        let unfounded = if let Request::WriteJob(wanted) = &request {
            self.about_to_bind(index, wanted);
            self.unfounded(index, wanted)
        } else {
            None
        };
        let fate = self.fate();
        let sender = Sender {
            operator: index,
            life: self.operators[index].life,
            epoch,
            sent_at: self.now,
            wall: self.wall(),
            is_copy: false,
            is_answered: matches!(fate, Fate::Lands | Fate::Again),
        };
        let sent = Sent {
            sender,
            id,
            wanted: self.wanted(index, &request),
            request,
            fate,
            unfounded,
        };
        let wait = self.latency();
        if matches!(sent.request, Request::CreatePod(_) | Request::ListPods(_)) {
            let (wanted, fate) = (sent.wanted, sent.fate);
            let what = if let Request::CreatePod(pod) = &sent.request {
                pod.name_any()
            } else {
                "a list".to_owned()
            };
            self.note(|| format!("operator {index} asks for {what}, {wanted} pods are wanted: {fate:?} in {wait} ms"));
        }
        if wait == 0 {
            return self.land(sent);
        }
        self.after(wait, Happening::Landed(Box::new(sent)));
    }

    /// A request arrives at the API server, and the answer at the operator, if there still is one.
    pub(crate) fn land(&mut self, sent: Sent) {
        let Sent {
            sender,
            id,
            request,
            fate,
            unfounded,
            wanted,
        } = sent;
        let Sender {
            operator: index,
            life,
            epoch,
            ..
        } = sender;
        let is_of_pod = matches!(request, Request::CreatePod(_) | Request::DeletePod(_));
        let second = matches!(fate, Fate::Twice | Fate::Late | Fate::Again)
            .then(|| again(&request))
            .flatten();
        // What arrives after its term has ended is counted against nobody, nor is what arrives late.
        let is_of_term = self.operators[index]
            .term
            .is_some_and(|term| term.epoch == epoch && term.since <= at(sender.sent_at));
        let is_in_time = is_of_term && fate != Fate::Unheard;
        let wanted = is_in_time.then_some(wanted);
        let answer = match fate {
            Fate::Lost | Fate::Fails | Fate::Late => None,
            Fate::Lands
            | Fate::AnswerLost
            | Fate::DoneButFails
            | Fate::Twice
            | Fate::Again
            | Fate::Unheard => Some(self.answer(sender, request, (unfounded, wanted))),
        };
        if fate == Fate::Unheard {
            return;
        }
        let answer = match (fate, second) {
            (Fate::Twice, Some(second)) => {
                let copy = Sender {
                    is_copy: true,
                    ..sender
                };
                Some(self.answer(copy, second, (None, None)))
            }
            (_, Some(second)) => {
                self.comes_later(sender, id, fate, second);
                answer
            }
            (_, None) => answer,
        };
        let is_there = self.operators[index].life == life && self.operators[index].is_alive;
        if !is_there || self.dies_here(index) {
            return;
        }
        let answered = |answer| Happening::Answered {
            operator: index,
            life,
            id,
            answer: Box::new(answer),
        };
        match (fate, answer) {
            (Fate::Lands | Fate::Twice | Fate::Again, Some(answer)) => {
                let wait = if self.is_stormy() && self.chance.percent(20) {
                    self.chance.between(1, 500)
                } else {
                    0
                };
                self.after(wait, answered(answer));
            }
            (Fate::Fails | Fate::DoneButFails, _) => {
                let answer = self.failure(is_of_pod);
                self.after(0, answered(answer));
            }
            _ => {
                let error = "no answer came".to_owned();
                self.after(ANSWER_LIMIT, answered(Answer::Unanswered { error }));
            }
        }
    }

    /// A request that nobody waits for any more, or its second copy.
    fn comes_later(&mut self, sender: Sender, id: RequestId, fate: Fate, request: Request) {
        let least = if fate == Fate::Late { ANSWER_LIMIT } else { 1 };
        let wait = self.chance.between(least, least + 15_000);
        let sent = Sent {
            sender: Sender {
                is_copy: true,
                ..sender
            },
            id,
            request,
            fate: Fate::Unheard,
            unfounded: None,
            wanted: 0,
        };
        self.after(wait, Happening::Landed(Box::new(sent)));
    }

    /// An API server that fails: 500 is what a webhook that does not answer comes to when a pod is made or deleted.
    fn failure(&mut self, is_of_pod: bool) -> Answer {
        if is_of_pod && self.chance.percent(50) {
            return Answer::Refused {
                code: 500,
                message: "a webhook does not answer".to_owned(),
            };
        }
        let errors = [
            "500: etcd is away",
            "503: overloaded",
            "the connection was closed",
        ];
        let error = (*self.chance.of(&errors)).to_owned();
        Answer::Unanswered { error }
    }

    /// For a while the API server, or an admission webhook, refuses some requests.
    pub(crate) fn refuse(&mut self) {
        let what = *self.chance.of(&[
            Refuses::MakingPods,
            Refuses::MakingPods,
            Refuses::DeletingPods,
            Refuses::Jobs,
            Refuses::Pools,
            Refuses::Everything,
        ]);
        let code = *self.chance.of(&[403, 422]);
        let until = self.now + self.chance.between(500, 12_000);
        self.note(|| format!("the API server refuses {what:?} with {code}"));
        self.refused = Some((what, code, until));
    }

    pub(crate) fn answered(&mut self, index: usize, life: u64, request: RequestId, answer: Answer) {
        if self.operators[index].life == life && self.operators[index].is_alive {
            self.inform(index, Event::Answered { request, answer });
        }
    }

    /// What the API server makes of a request.
    fn answer(
        &mut self,
        sender: Sender,
        request: Request,
        (unfounded, wanted): (Option<String>, Option<usize>),
    ) -> Answer {
        let index = sender.operator;
        if let Some((what, code, until)) = self.refused
            && until > self.now
            && what.covers(&request)
        {
            let message = "a policy is against it".to_owned();
            return Answer::Refused { code, message };
        }
        match request {
            Request::ReadJob(name) => match self.api.jobs.live.get(&name) {
                Some(job) if is_unreadable(&**job) => unreadable(),
                Some(job) => Answer::Job(Box::new((**job).clone())),
                None => Answer::Gone,
            },
            Request::ReadJobMetadata(name) => match self.api.jobs.live.get(&name) {
                Some(job) => Answer::Metadata(Box::new(job.metadata.clone())),
                None => Answer::Gone,
            },
            Request::ReadPool(name) => match self.api.pools.live.get(&name) {
                Some(pool) if is_unreadable(&**pool) => unreadable(),
                Some(pool) => Answer::Pool(Box::new((**pool).clone())),
                None => Answer::Gone,
            },
            Request::WriteJob(wanted) => {
                let before = self.api.jobs.live.get(&name_of(&*wanted)).cloned();
                let written = self.api.write_job_status(&wanted);
                if let (Some(before), Ok(after)) = (&before, &written) {
                    self.durable(sender, &wanted, before, after);
                    if let Some(unfounded) = unfounded {
                        self.blame(|| unfounded);
                    }
                }
                written.map_or_else(refused, |job| Answer::Job(Box::new((*job).clone())))
            }
            Request::WritePool(wanted) => {
                let before = self.api.pools.live.get(&name_of(&*wanted)).cloned();
                let written = self.api.write_pool_status(&wanted);
                if let (Some(before), Ok(after)) = (&before, &written) {
                    self.pool_written(sender, &wanted, before, after);
                }
                written.map_or_else(refused, |pool| Answer::Pool(Box::new((*pool).clone())))
            }
            Request::WriteOutcome { uid, .. } => {
                self.outcome_recorded(&uid);
                Answer::Done
            }
            Request::DeleteJob { name, uid, version } => {
                self.past_its_time(sender, &name);
                let deleted = self
                    .api
                    .delete_job(&name, Some(&uid), Some(&version), self.now);
                self.note(|| format!("operator {index} deletes job {name}: {deleted:?}"));
                deleted.map_or_else(refused, |()| Answer::Done)
            }
            Request::ListPods(pool) => {
                let pods = self.api.pods.live.values();
                let pods = pods.filter(|pod| {
                    pod.namespace().as_ref() == Some(&pool.namespace)
                        && pod.labels().get(LABEL_POOL) == Some(&pool.name)
                });
                Answer::Pods(pods.map(|pod| (**pod).clone()).collect())
            }
            Request::ReadPodMetadata { namespace, name } => {
                match self.api.pods.live.get(&ObjectName::new(&namespace, &name)) {
                    Some(pod) => Answer::Metadata(Box::new(pod.metadata.clone())),
                    None => Answer::Gone,
                }
            }
            Request::CreatePod(pod) => self.operator_makes_pod(index, *pod, wanted),
            Request::DeletePod(worker) => {
                // Nobody keeps a worker idle for a deletion that may still arrive.
                let is_late = sender.is_copy;
                self.operator_deletes_pod(index, &worker, is_late)
            }
            Request::ProtectPod { worker, .. } => self.operator_protects_pod(&worker),
        }
    }

    /// How many pods a pool is to have, as the operator that makes one sees it: it cannot know better, and its request may be slow.
    fn wanted(&self, index: usize, request: &Request) -> usize {
        let Request::CreatePod(pod) = request else {
            return 0;
        };
        let namespace = pod.namespace().unwrap_or_default();
        let world = self.operators[index].engine.world();
        let pool = pool_of(pod)
            .and_then(|(name, _)| world.pool(&ObjectName::new(&namespace, &name)).cloned());
        pool.filter(|pool| pool.metadata.deletion_timestamp.is_none())
            .map_or(0, |pool| usize::try_from(pool.spec.replicas).unwrap_or(0))
    }

    /// Autoscalers' annotations say nothing in this world.
    fn operator_protects_pod(&self, worker: &WorkerRef) -> Answer {
        match self.api.pods.live.contains_key(&pod_of(worker)) {
            true => Answer::Done,
            false => Answer::Gone,
        }
    }

    fn fate(&mut self) -> Fate {
        if !self.is_stormy() || !self.chance.percent(self.weather.lost_write) {
            return Fate::Lands;
        }
        *self.chance.of(&[
            Fate::Lost,
            Fate::AnswerLost,
            Fate::Fails,
            Fate::DoneButFails,
            Fate::Twice,
            Fate::Late,
            Fate::Again,
        ])
    }

    /// How long a request takes.
    fn latency(&mut self) -> Millis {
        let (usual, slow) = if self.is_stormy() {
            (40, 4000)
        } else {
            (5, 20)
        };
        if self.chance.percent(60) {
            0
        } else if self.chance.percent(90) {
            self.chance.between(1, usual)
        } else {
            self.chance.between(1, slow)
        }
    }
}

fn refused(why: Refused) -> Answer {
    match why {
        Refused::Conflict => Answer::Conflict,
        Refused::NotFound => Answer::Gone,
        Refused::Exists => Answer::Exists,
    }
}

fn unreadable() -> Answer {
    let error = "the answer cannot be read".to_owned();
    Answer::Unanswered { error }
}

/// The same request once more, if it changes anything.
fn again(request: &Request) -> Option<Request> {
    match request {
        Request::WriteJob(job) => Some(Request::WriteJob(job.clone())),
        Request::WritePool(pool) => Some(Request::WritePool(pool.clone())),
        Request::CreatePod(pod) => Some(Request::CreatePod(pod.clone())),
        Request::DeletePod(worker) => Some(Request::DeletePod(worker.clone())),
        Request::WriteOutcome { name, uid, outcome } => Some(Request::WriteOutcome {
            name: name.clone(),
            uid: uid.clone(),
            outcome: outcome.clone(),
        }),
        Request::DeleteJob { name, uid, version } => Some(Request::DeleteJob {
            name: name.clone(),
            uid: uid.clone(),
            version: version.clone(),
        }),
        Request::ReadJob(_)
        | Request::ReadPool(_)
        | Request::ReadJobMetadata(_)
        | Request::ListPods(_)
        | Request::ReadPodMetadata { .. }
        | Request::ProtectPod { .. } => None,
    }
}
