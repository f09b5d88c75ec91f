//! What happens to a queue, and what it does about it as text.

use framewright_crds::modelpool::Device;
use framewright_crds::wire::{
    ModelOrder, ModelState, Order, Outcome, OutputFile, Pipeline, TaskOrder, TaskState, ToOperator,
    ToWorker,
};
use framewright_queue::{Effect, Event, Identity, News, Queue};

pub(crate) fn identity(slots: usize) -> Identity {
    Identity {
        version: "1".into(),
        device: Device::Cpu,
        device_trouble: None,
        slots,
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
    check(&mut queue, welcome(&["a"]), "say model a Loading; hold a");
    check(
        &mut queue,
        model("a", ModelState::Ready),
        "say model a Ready",
    );
    queue
}

pub(crate) fn ordered(order: Order) -> Event {
    Event::Ordered(ToWorker { epoch: 5, order })
}

pub(crate) fn welcome(models: &[&str]) -> Event {
    let models = models.iter().map(|name| ModelOrder {
        name: (*name).into(),
        digest: digest(name),
        files: vec![],
    });
    ordered(Order::Welcome {
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

pub(crate) fn id(step: &str) -> framewright_crds::names::TaskId {
    format!("uid/{step}/0/1").parse().unwrap()
}

pub(crate) fn task(step: &str, model: &str) -> Box<TaskOrder> {
    Box::new(TaskOrder {
        task: id(step),
        job: "studio/demo".into(),
        model: model.into(),
        digest: digest(model),
        pipeline: Pipeline::Upscale(Default::default()),
        inputs: vec![],
    })
}

pub(crate) fn run(step: &str, model: &str) -> Event {
    ordered(Order::Run(task(step, model)))
}

pub(crate) fn cancel(step: &str) -> Event {
    ordered(Order::Cancel { task: id(step) })
}

pub(crate) fn settled(step: &str) -> Event {
    ordered(Order::Settled { task: id(step) })
}

pub(crate) fn news(step: &str, news: News) -> Event {
    Event::Task {
        task: id(step),
        news,
    }
}

pub(crate) fn output() -> OutputFile {
    OutputFile {
        sha256: "cafe".into(),
        bytes: 4,
        media_type: "video/mp4".into(),
    }
}

pub(crate) fn done() -> Outcome {
    Outcome::Succeeded {
        output: output(),
        units: 1,
    }
}

pub(crate) fn check(queue: &mut Queue, event: Event, expected: &str) {
    let effects: Vec<String> = queue.handle(event.clone()).iter().map(text).collect();
    assert_eq!(effects.join("; "), expected, "after {event:?}");
}

pub(crate) fn text(effect: &Effect) -> String {
    match effect {
        Effect::Say(message) => message_text(message),
        Effect::HangUp => "hang up".into(),
        Effect::Hold(models) => {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            format!("hold {}", names.join(" "))
        }
        Effect::Start(order) => format!("start {}", order.task.step),
        Effect::Renew(order) => format!("renew {}", order.task.step),
        Effect::Grant { task, .. } => format!("grant {}", task.step),
        Effect::Stop(task) => format!("stop {}", task.step),
        Effect::Exit => "exit".into(),
        Effect::Abort => "abort".into(),
    }
}

pub(crate) fn message_text(message: &ToOperator) -> String {
    match message {
        ToOperator::Hello {
            device_trouble,
            tasks,
            ..
        } => {
            let mut text = "hello".to_owned();
            if let Some(trouble) = device_trouble {
                text += &format!(" ({trouble})");
            }
            for report in tasks {
                let state = match report.state {
                    TaskState::Starting => "starting",
                    TaskState::Running { .. } => "running",
                    TaskState::Uploading { .. } => "uploading",
                    TaskState::Finished { .. } => "finished",
                };
                text += &format!(" {}:{state}", report.task.step);
            }
            text
        }
        ToOperator::Model { name, state, .. } => {
            let state = match state {
                ModelState::Loading { .. } => "Loading",
                ModelState::Ready => "Ready",
                ModelState::AwaitingUpload => "AwaitingUpload",
                ModelState::Failed { .. } => "Failed",
            };
            format!("say model {name} {state}")
        }
        ToOperator::Started { task } => format!("say started {}", task.step),
        ToOperator::Progress { task, .. } => format!("say progress {}", task.step),
        ToOperator::UploadRequest { task, .. } => format!("request upload {}", task.step),
        ToOperator::RenewGrants { task: Some(task) } => format!("renew grants {}", task.step),
        ToOperator::RenewGrants { task: None } => "renew weights".into(),
        ToOperator::StoreTrouble { task, trouble } => {
            format!("say trouble {} {trouble:?}", task.step)
        }
        ToOperator::Finished { task, outcome } => match outcome {
            Outcome::Succeeded { .. } => format!("say finished {} Succeeded", task.step),
            Outcome::Failed { cause, message } => {
                format!("say finished {} {cause:?} ({message})", task.step)
            }
        },
        ToOperator::Draining => "say draining".into(),
    }
}
