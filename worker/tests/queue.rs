//! The queue as data: events in, effects out, both as text.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what a test does not expect ends it"
)]

use framewright_crds::aijob::{Cause, Progress};
use framewright_crds::modelpool::Device;
use framewright_crds::wire::{
    ModelOrder, ModelState, Order, Outcome, OutputFile, Pipeline, TaskOrder, TaskState, ToOperator,
    ToWorker,
};
use framewright_worker::queue::{Effect, Event, Identity, News, Queue};

#[test]
fn a_task_waits_for_its_model_then_for_a_slot() {
    let mut queue = connected(1);
    check(
        &mut queue,
        welcome(&["a", "b"]),
        "say model a Loading; say model b Loading; hold a b",
    );
    check(&mut queue, run("1", "a"), "");
    check(&mut queue, run("2", "b"), "");
    // The first model to be ready goes first, and lets others pass.
    check(
        &mut queue,
        model("b", ModelState::Ready),
        "say model b Ready; start 2",
    );
    check(
        &mut queue,
        model("a", ModelState::Ready),
        "say model a Ready",
    );
    check(
        &mut queue,
        news("2", News::Ended(done())),
        "say finished 2 Succeeded; start 1",
    );
}

#[test]
fn as_many_tasks_start_as_there_are_slots_in_the_order_of_arrival() {
    let mut queue = ready(2);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, run("2", "a"), "start 2");
    check(&mut queue, run("3", "a"), "");
    check(&mut queue, run("4", "a"), "");
    check(
        &mut queue,
        news("2", News::Ended(done())),
        "say finished 2 Succeeded; start 3",
    );
}

#[test]
fn an_order_that_comes_again_is_the_same_order() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, run("1", "a"), "renew 1");
    check(&mut queue, run("2", "a"), "");
    check(&mut queue, run("2", "a"), "");
    check(
        &mut queue,
        news("1", News::Ended(done())),
        "say finished 1 Succeeded; start 2",
    );
    check(&mut queue, run("1", "a"), "say finished 1 Succeeded");
    check(&mut queue, settled("1"), "");
    check(&mut queue, settled("1"), "");
}

#[test]
fn an_outcome_is_repeated_in_each_hello_until_it_is_settled() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, Event::Lost, "");
    check(&mut queue, news("1", News::Started), "");
    check(&mut queue, Event::Connected, "hello 1:running");
    check(&mut queue, Event::Lost, "");
    check(&mut queue, news("1", News::Computed(output())), "");
    check(&mut queue, Event::Connected, "hello 1:uploading");
    check(&mut queue, Event::Lost, "");
    check(&mut queue, news("1", News::Ended(done())), "");
    check(&mut queue, Event::Connected, "hello 1:finished");
    check(&mut queue, Event::Lost, "");
    check(&mut queue, Event::Connected, "hello 1:finished");
    check(&mut queue, settled("1"), "");
    check(&mut queue, Event::Lost, "");
    check(&mut queue, Event::Connected, "hello");
}

#[test]
fn an_older_operator_is_left_and_its_orders_do_nothing() {
    let mut queue = ready(1);
    let late = |order| Event::Ordered(ToWorker { epoch: 4, order });
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, late(Order::Cancel { task: id("1") }), "hang up");
    check(
        &mut queue,
        late(Order::Welcome { models: vec![] }),
        "hang up",
    );
    check(&mut queue, late(Order::Run(task("2", "a"))), "hang up");
    check(
        &mut queue,
        news("1", News::Ended(done())),
        "say finished 1 Succeeded",
    );
    let newer = Event::Ordered(ToWorker {
        epoch: 6,
        order: Order::Settled { task: id("1") },
    });
    check(&mut queue, newer, "");
    check(&mut queue, run("3", "a"), "hang up");
}

#[test]
fn a_cancelled_task_is_forgotten_and_its_slot_is_free_when_it_has_stopped() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, run("2", "a"), "");
    check(&mut queue, cancel("1"), "stop 1");
    check(&mut queue, cancel("1"), "");
    // What it still says on its way is not passed on.
    check(
        &mut queue,
        news("1", News::Progress(Progress::default())),
        "",
    );
    check(&mut queue, Event::Connected, "hello 2:starting");
    check(&mut queue, news("1", News::Stopped), "start 2");
    check(&mut queue, cancel("2"), "stop 2");
    // It was faster than the order.
    check(&mut queue, news("2", News::Ended(done())), "");
    check(&mut queue, Event::Connected, "hello");
}

#[test]
fn a_worker_whose_device_hangs_ends() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, cancel("1"), "stop 1");
    check(&mut queue, news("1", News::Hangs), "abort");
}

#[test]
fn a_task_that_is_ordered_again_while_it_stops_starts_again() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, cancel("1"), "stop 1");
    check(&mut queue, run("1", "a"), "");
    check(&mut queue, Event::Connected, "hello 1:starting");
    check(&mut queue, news("1", News::Stopped), "start 1");
}

#[test]
fn a_model_that_fails_fails_its_tasks_and_no_others() {
    let mut queue = connected(1);
    check(
        &mut queue,
        welcome(&["a", "b"]),
        "say model a Loading; say model b Loading; hold a b",
    );
    check(&mut queue, run("1", "a"), "");
    check(&mut queue, run("2", "b"), "");
    let wrong = ModelState::Failed {
        message: "x.safetensors is cut short".into(),
    };
    check(
        &mut queue,
        model("a", wrong),
        "say model a Failed; say finished 1 WeightsFailed (model a: x.safetensors is cut short)",
    );
    check(
        &mut queue,
        model("b", ModelState::Ready),
        "say model b Ready; start 2",
    );
    check(
        &mut queue,
        run("3", "c"),
        "say finished 3 WeightsFailed (the worker's pool does not hold the model c any more)",
    );
}

#[test]
fn weights_that_changed_since_the_step_was_placed_do_not_run_under_the_old_digest() {
    let mut queue = connected(1);
    check(&mut queue, welcome(&["a"]), "say model a Loading; hold a");
    let mut order = task("1", "a");
    order.digest = "digest of other weights".into();
    check(
        &mut queue,
        ordered(Order::Run(order)),
        "say finished 1 WeightsFailed (the pool's weights for model a are others now than when the step was placed)",
    );
}

#[test]
fn a_new_welcome_keeps_what_is_ready_and_forgets_what_is_gone() {
    let mut queue = ready(1);
    check(
        &mut queue,
        welcome(&["a", "b"]),
        "say model a Ready; say model b Loading; hold a b",
    );
    check(&mut queue, welcome(&["b"]), "say model b Loading; hold b");
    check(&mut queue, model("a", ModelState::Ready), "");
    check(&mut queue, Event::WeightGrantsExpired, "renew weights");
}

#[test]
fn a_grant_counts_for_the_output_it_was_asked_for() {
    let mut queue = ready(1);
    let upload = |sha256: &str| {
        ordered(Order::Upload {
            task: id("1"),
            sha256: sha256.into(),
            url: "https://store".into(),
        })
    };
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, upload("cafe"), "");
    check(
        &mut queue,
        news("1", News::Computed(output())),
        "request upload 1",
    );
    check(&mut queue, upload("beef"), "");
    check(&mut queue, upload("cafe"), "grant 1");
}

#[test]
fn a_worker_that_drains_finishes_what_runs_and_takes_nothing_new() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, run("2", "a"), "");
    check(
        &mut queue,
        Event::Drain,
        "say draining; say finished 2 WorkerDrained (the worker ends and takes no new task)",
    );
    check(
        &mut queue,
        run("3", "a"),
        "say finished 3 WorkerDrained (the worker ends and takes no new task)",
    );
    assert!(!queue.is_drained());
    check(
        &mut queue,
        news("1", News::Ended(done())),
        "say finished 1 Succeeded",
    );
    assert!(queue.is_drained());
    check(
        &mut queue,
        Event::Connected,
        "hello 1:finished 2:finished 3:finished; say draining",
    );
    check(&mut queue, settled("1"), "");
    check(&mut queue, settled("2"), "");
    check(&mut queue, settled("3"), "exit");
}

#[test]
fn a_worker_that_has_lost_its_device_says_which_task_failed_takes_nothing_and_ends() {
    let mut queue = ready(2);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, run("2", "a"), "start 2");
    check(&mut queue, run("3", "a"), "");
    let lost = || News::DeviceLost {
        message: "CUDA_ERROR_ILLEGAL_ADDRESS".into(),
    };
    assert_eq!(queue.lost_device(), None);
    check(
        &mut queue,
        news("1", lost()),
        "say finished 1 DeviceError (CUDA_ERROR_ILLEGAL_ADDRESS); say draining; \
         say finished 3 WorkerDrained (the worker ends and takes no new task)",
    );
    assert_eq!(queue.lost_device(), Some("CUDA_ERROR_ILLEGAL_ADDRESS"));
    assert!(!queue.is_drained(), "task 2 has not ended");
    check(
        &mut queue,
        news("2", lost()),
        "say finished 2 DeviceError (CUDA_ERROR_ILLEGAL_ADDRESS)",
    );
    assert!(queue.is_drained());
    check(&mut queue, settled("1"), "");
    check(&mut queue, settled("2"), "");
    check(&mut queue, settled("3"), "exit");
}

#[test]
fn a_worker_whose_device_is_lost_between_tasks_ends() {
    let mut queue = ready(1);
    let message = "CUDA_ERROR_UNKNOWN (Xid 79)".to_owned();
    check(
        &mut queue,
        Event::DeviceLost { message },
        "say draining; exit",
    );
    assert_eq!(queue.lost_device(), Some("CUDA_ERROR_UNKNOWN (Xid 79)"));
}

#[test]
fn an_idle_worker_that_drains_ends_at_once() {
    check(&mut ready(1), Event::Drain, "say draining; exit");
}

#[test]
fn a_worker_without_its_device_says_so_and_takes_no_task() {
    let mut queue = Queue::new(Identity {
        device_trouble: Some("no CUDA device".into()),
        ..identity(1)
    });
    check(&mut queue, Event::Connected, "hello (no CUDA device)");
    check(&mut queue, welcome(&["a"]), "say model a Loading; hold a");
    check(
        &mut queue,
        model("a", ModelState::Ready),
        "say model a Ready",
    );
    check(
        &mut queue,
        run("1", "a"),
        "say finished 1 DeviceError (no CUDA device)",
    );
}

fn check(queue: &mut Queue, event: Event, expected: &str) {
    let effects: Vec<String> = queue.handle(event.clone()).iter().map(text).collect();
    assert_eq!(effects.join("; "), expected, "after {event:?}");
}

fn text(effect: &Effect) -> String {
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

fn message_text(message: &ToOperator) -> String {
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

fn identity(slots: usize) -> Identity {
    Identity {
        version: "1".into(),
        device: Device::Cpu,
        device_trouble: None,
        slots,
    }
}

fn connected(slots: usize) -> Queue {
    let mut queue = Queue::new(identity(slots));
    check(&mut queue, Event::Connected, "hello");
    queue
}

/// Connected, and model a is ready.
fn ready(slots: usize) -> Queue {
    let mut queue = connected(slots);
    check(&mut queue, welcome(&["a"]), "say model a Loading; hold a");
    check(
        &mut queue,
        model("a", ModelState::Ready),
        "say model a Ready",
    );
    queue
}

fn ordered(order: Order) -> Event {
    Event::Ordered(ToWorker { epoch: 5, order })
}

fn welcome(models: &[&str]) -> Event {
    let models = models.iter().map(|name| ModelOrder {
        name: (*name).into(),
        digest: digest(name),
        files: vec![],
    });
    ordered(Order::Welcome {
        models: models.collect(),
    })
}

fn digest(model: &str) -> String {
    format!("digest of {model}")
}

fn model(name: &str, state: ModelState) -> Event {
    Event::Model {
        name: name.into(),
        digest: digest(name),
        state,
    }
}

fn id(step: &str) -> framewright_crds::names::TaskId {
    format!("uid/{step}/0/1").parse().unwrap()
}

fn task(step: &str, model: &str) -> Box<TaskOrder> {
    Box::new(TaskOrder {
        task: id(step),
        job: "studio/demo".into(),
        model: model.into(),
        digest: digest(model),
        pipeline: Pipeline::Upscale(Default::default()),
        inputs: vec![],
    })
}

fn run(step: &str, model: &str) -> Event {
    ordered(Order::Run(task(step, model)))
}

fn cancel(step: &str) -> Event {
    ordered(Order::Cancel { task: id(step) })
}

fn settled(step: &str) -> Event {
    ordered(Order::Settled { task: id(step) })
}

fn news(step: &str, news: News) -> Event {
    Event::Task {
        task: id(step),
        news,
    }
}

fn output() -> OutputFile {
    OutputFile {
        sha256: "cafe".into(),
        bytes: 4,
        media_type: "video/mp4".into(),
    }
}

fn done() -> Outcome {
    Outcome::Succeeded {
        output: output(),
        units: 1,
    }
}

#[test]
fn causes_are_told_apart() {
    let failed = Outcome::Failed {
        cause: Cause::InvalidInput,
        message: "no".into(),
    };
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, news("1", News::GrantsExpired), "renew grants 1");
    check(
        &mut queue,
        news("1", News::Ended(failed)),
        "say finished 1 InvalidInput (no)",
    );
}
