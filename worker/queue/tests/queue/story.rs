//! What happens to a queue, and what it does about it as text.

use framewright_crds::aijob::{OutputRole, Usage};
use framewright_crds::modelpool::Device;
use framewright_crds::names::{ArtifactRole, TaskId};
use framewright_crds::pipelines::{BASE_MODEL, Pipeline};
use framewright_crds::protocol::{
    Command, ModelConfig, ModelState, OperatorMessage, Outcome, OutputFile, RunTask, TaskModel,
    TaskRecord, TaskState, WorkerMessage,
};
use framewright_queue::{Effect, Event, Identity, Queue, TaskEvent};

pub(crate) fn identity(slots: usize) -> Identity {
    Identity {
        version: "1".into(),
        device: Device::Cpu,
        device_error: None,
        memory: Some(1 << 30),
        slots,
        pipelines: vec!["upscale".into()],
    }
}

pub(crate) fn connected(slots: usize) -> Queue {
    let mut queue = Queue::new(identity(slots));
    check(&mut queue, Event::Connected, "hello");
    queue
}

/// Connected, and model a is ready.
pub(crate) fn ready(slots: usize) -> Queue {
    let mut queue = connected(slots);
    check(
        &mut queue,
        configure(&["a"]),
        "send model a Loading; hold a",
    );
    check(
        &mut queue,
        model("a", ModelState::Ready),
        "send model a Ready",
    );
    queue
}

pub(crate) fn received(command: Command) -> Event {
    Event::Received(OperatorMessage { epoch: 5, command })
}

pub(crate) fn configure(models: &[&str]) -> Event {
    let models = models.iter().map(|name| ModelConfig {
        name: (*name).into(),
        digest: digest(name),
        files: vec![],
    });
    received(Command::Configure {
        models: models.collect(),
    })
}

pub(crate) fn digest(model: &str) -> String {
    format!("digest of {model}")
}

pub(crate) fn model(name: &str, state: ModelState) -> Event {
    Event::Model {
        name: name.into(),
        digest: digest(name),
        state,
    }
}

pub(crate) fn id(step: &str) -> TaskId {
    format!("uid/{step}/0/1").parse().unwrap()
}

pub(crate) fn task(step: &str, model: &str) -> Box<RunTask> {
    Box::new(RunTask {
        task: id(step),
        job: "studio/demo".into(),
        pipeline: Pipeline::Upscale(Default::default()),
        models: vec![task_model(BASE_MODEL, model)],
        inputs: vec![],
        seed: 0,
        resume: None,
        max_units: None,
    })
}

pub(crate) fn task_model(role: &str, name: &str) -> TaskModel {
    TaskModel {
        role: role.into(),
        name: name.into(),
        digest: digest(name),
        scale: None,
    }
}

pub(crate) fn run(step: &str, model: &str) -> Event {
    received(Command::Run(task(step, model)))
}

/// The same with a limit.
pub(crate) fn run_within(step: &str, model: &str, max_units: u64) -> Event {
    let mut task = task(step, model);
    task.max_units = Some(max_units);
    received(Command::Run(task))
}

pub(crate) fn proceed(step: &str) -> Event {
    received(Command::Proceed { task: id(step) })
}

pub(crate) fn cancel(step: &str) -> Event {
    received(Command::Cancel { task: id(step) })
}

pub(crate) fn ack(step: &str) -> Event {
    received(Command::Ack { task: id(step) })
}

pub(crate) fn event(step: &str, event: TaskEvent) -> Event {
    Event::Task {
        task: id(step),
        event,
    }
}

pub(crate) fn output(name: &str, digest: &str) -> OutputFile {
    OutputFile {
        name: name.into(),
        role: OutputRole::Result,
        digest: digest.into(),
        bytes: 4,
        media_type: "video/mp4".into(),
        facts: vec![],
    }
}

pub(crate) fn computed() -> TaskEvent {
    TaskEvent::Computed(vec![output("video", "cafe"), output("mask", "f00d")])
}

pub(crate) fn done() -> Outcome {
    Outcome::Succeeded {
        outputs: vec![output("video", "cafe"), output("mask", "f00d")],
        usage: usage(1),
        record: TaskRecord::default(),
    }
}

pub(crate) fn usage(amount: i64) -> Usage {
    Usage {
        unit: "pixels".into(),
        amount,
    }
}

pub(crate) fn check(queue: &mut Queue, event: Event, expected: &str) {
    let effects: Vec<String> = queue.handle(event.clone()).iter().map(text).collect();
    assert_eq!(effects.join("; "), expected, "after {event:?}");
}

pub(crate) fn text(effect: &Effect) -> String {
    match effect {
        Effect::Send(message) => message_text(message),
        Effect::HangUp => "hang up".into(),
        Effect::Hold(models) => {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            format!("hold {}", names.join(" "))
        }
        Effect::Start(run) => format!("start {}", run.task.step),
        Effect::Renew(run) => format!("renew {}", run.task.step),
        Effect::Proceed(task) => format!("proceed {}", task.step),
        Effect::Upload { task, name, .. } => format!("upload {} {name}", task.step),
        Effect::Stop(task) => format!("stop {}", task.step),
        Effect::Exit => "exit".into(),
        Effect::Abort => "abort".into(),
    }
}

pub(crate) fn message_text(message: &WorkerMessage) -> String {
    match message {
        WorkerMessage::Hello(hello) => {
            let mut text = "hello".to_owned();
            if let Some(error) = &hello.device_error {
                text += &format!(" ({error})");
            }
            for report in &hello.tasks {
                let state = match report.state {
                    TaskState::Starting => "starting".to_owned(),
                    TaskState::Prepared { units } => format!("prepared {units}"),
                    TaskState::Running { .. } => "running".to_owned(),
                    TaskState::Uploading { .. } => "uploading".to_owned(),
                    TaskState::Stopping => "stopping".to_owned(),
                    TaskState::Finished { .. } => "finished".to_owned(),
                };
                text += &format!(" {}:{state}", report.task.step);
            }
            text
        }
        WorkerMessage::Model { name, state, .. } => {
            let state = match state {
                ModelState::Loading { .. } => "Loading",
                ModelState::Ready => "Ready",
                ModelState::AwaitingUpload => "AwaitingUpload",
                ModelState::Failed { .. } => "Failed",
            };
            format!("send model {name} {state}")
        }
        WorkerMessage::Loaded { models, .. } => {
            let digests: Vec<&str> = models.iter().map(|model| model.digest.as_str()).collect();
            format!("send loaded {}", digests.join(", "))
        }
        WorkerMessage::Prepared { task, units } => format!("send prepared {} {units}", task.step),
        WorkerMessage::Started { task } => format!("send started {}", task.step),
        WorkerMessage::Progress { task, .. } => format!("send progress {}", task.step),
        WorkerMessage::UploadRequest { task, role, file } => {
            assert_eq!(*role, ArtifactRole::Output);
            format!("request upload {} {}", task.step, file.name)
        }
        WorkerMessage::RenewLinks { task: Some(task) } => format!("renew links {}", task.step),
        WorkerMessage::RenewLinks { task: None } => "renew model links".into(),
        WorkerMessage::StoreError { task, error } => {
            format!("send store error {} {error:?}", task.step)
        }
        WorkerMessage::Finished { task, outcome } => match outcome {
            Outcome::Succeeded { .. } => format!("send finished {} Succeeded", task.step),
            Outcome::Failed {
                cause,
                message,
                usage,
            } => {
                let used = usage.as_ref().map(|usage| usage.amount);
                let used = used.map_or(String::new(), |amount| format!(" after {amount}"));
                format!("send finished {} {cause:?}{used} ({message})", task.step)
            }
        },
        WorkerMessage::Stopped { task } => format!("send stopped {}", task.step),
        WorkerMessage::Draining => "send draining".into(),
        WorkerMessage::Unknown => "send unknown".into(),
    }
}
