//! Which task starts when, and what if its command comes again, its model fails, or it is cancelled?

use framewright_crds::aijob::{Cause, Progress};
use framewright_crds::names::ArtifactRole;
use framewright_crds::pipelines::Pipeline;
use framewright_crds::protocol::{
    Command, LoadedModel, ModelConfig, ModelState, Outcome, PROTOCOLS, WorkerMessage,
};
use framewright_queue::{Effect, Event, TaskEvent};

use crate::story::{
    ack, cancel, check, computed, configure, connected, digest, done, event, id, model, output,
    proceed, ready, received, run, run_within, task, task_model, usage,
};

#[test]
fn a_task_waits_for_its_model_then_for_a_slot() {
    let mut queue = connected(1);
    check(
        &mut queue,
        configure(&["a", "b"]),
        "send model a Loading; send model b Loading; hold a b",
    );
    check(&mut queue, run("1", "a"), "");
    check(&mut queue, run("2", "b"), "");
    // The first model to be ready goes first, and lets others pass.
    check(
        &mut queue,
        model("b", ModelState::Ready),
        "send model b Ready; start 2",
    );
    check(
        &mut queue,
        model("a", ModelState::Ready),
        "send model a Ready",
    );
    check(
        &mut queue,
        event("2", TaskEvent::Ended(done())),
        "send finished 2 Succeeded; start 1",
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
        event("2", TaskEvent::Ended(done())),
        "send finished 2 Succeeded; start 3",
    );
}

#[test]
fn a_command_that_comes_again_is_the_same_command() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, run("1", "a"), "renew 1");
    check(&mut queue, run("2", "a"), "");
    check(&mut queue, run("2", "a"), "");
    check(
        &mut queue,
        event("1", TaskEvent::Ended(done())),
        "send finished 1 Succeeded; start 2",
    );
    check(&mut queue, run("1", "a"), "send finished 1 Succeeded");
    check(&mut queue, ack("1"), "");
    check(&mut queue, ack("1"), "");
}

#[test]
fn a_cancelled_task_is_stopping_until_it_has_stopped_and_then_its_slot_is_free() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, run("2", "a"), "");
    check(&mut queue, cancel("1"), "stop 1");
    check(&mut queue, cancel("1"), "");
    // What it still says on its way is not passed on.
    check(
        &mut queue,
        event("1", TaskEvent::Progress(Progress::default())),
        "",
    );
    check(&mut queue, Event::Connected, "hello 1:stopping 2:starting");
    check(
        &mut queue,
        event("1", TaskEvent::Stopped),
        "send stopped 1; start 2",
    );
    check(&mut queue, Event::Connected, "hello 2:starting");
    check(&mut queue, cancel("2"), "stop 2");
    // It was faster than the command.
    check(
        &mut queue,
        event("2", TaskEvent::Ended(done())),
        "send stopped 2",
    );
    check(&mut queue, Event::Connected, "hello");
    // One that is not held has stopped.
    check(&mut queue, cancel("2"), "send stopped 2");
}

#[test]
fn a_task_that_is_sent_again_while_it_stops_starts_again() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, cancel("1"), "stop 1");
    check(&mut queue, run("1", "a"), "");
    check(&mut queue, Event::Connected, "hello 1:starting");
    check(&mut queue, event("1", TaskEvent::Stopped), "start 1");
}

#[test]
fn a_task_with_a_limit_waits_for_the_operator_once_it_is_prepared() {
    let mut queue = ready(1);
    check(&mut queue, run_within("1", "a", 50), "start 1");
    check(&mut queue, proceed("1"), "");
    let prepared = || event("1", TaskEvent::Prepared { units: 40 });
    check(&mut queue, prepared(), "send prepared 1 40");
    check(&mut queue, Event::Connected, "hello 1:prepared 40");
    // Its links expire while it waits, and it still waits.
    check(&mut queue, run_within("1", "a", 50), "renew 1");
    check(&mut queue, Event::Connected, "hello 1:prepared 40");
    check(&mut queue, proceed("1"), "proceed 1");
    check(&mut queue, proceed("1"), "");
    check(&mut queue, Event::Connected, "hello 1:starting");
    check(&mut queue, event("1", TaskEvent::Started), "send started 1");
    check(&mut queue, proceed("1"), "");
    check(&mut queue, proceed("2"), "");
}

#[test]
fn a_prepared_task_that_is_cancelled_does_not_compute() {
    let mut queue = ready(1);
    check(&mut queue, run_within("1", "a", 50), "start 1");
    let prepared = event("1", TaskEvent::Prepared { units: 40 });
    check(&mut queue, prepared, "send prepared 1 40");
    check(&mut queue, cancel("1"), "stop 1");
    check(&mut queue, proceed("1"), "");
    check(&mut queue, event("1", TaskEvent::Stopped), "send stopped 1");
    check(&mut queue, Event::Connected, "hello");
}

#[test]
fn a_task_without_a_limit_says_what_it_needs_and_goes_on() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    let prepared = event("1", TaskEvent::Prepared { units: 40 });
    check(&mut queue, prepared, "send prepared 1 40");
    check(&mut queue, Event::Connected, "hello 1:starting");
}

#[test]
fn a_link_counts_for_an_output_that_the_task_has_computed() {
    let mut queue = ready(1);
    let upload = |role: ArtifactRole, name: &str, digest: &str| {
        received(Command::Upload {
            task: id("1"),
            role,
            name: name.into(),
            digest: digest.into(),
            url: "https://store".into(),
        })
    };
    let link = |name: &str, digest: &str| upload(ArtifactRole::Output, name, digest);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, link("video", "cafe"), "");
    check(&mut queue, event("1", computed()), "");
    check(
        &mut queue,
        event("1", TaskEvent::UploadRequested(output("video", "cafe"))),
        "request upload 1 video",
    );
    check(&mut queue, link("video", "beef"), "");
    check(&mut queue, link("other", "cafe"), "");
    check(
        &mut queue,
        upload(ArtifactRole::Preview, "video", "cafe"),
        "",
    );
    check(&mut queue, link("video", "cafe"), "upload 1 video");
    check(
        &mut queue,
        event("1", TaskEvent::UploadRequested(output("mask", "f00d"))),
        "request upload 1 mask",
    );
    check(&mut queue, link("mask", "f00d"), "upload 1 mask");
}

#[test]
fn causes_are_told_apart_and_the_work_done_is_not_lost() {
    let failed = Outcome::Failed {
        cause: Cause::InvalidInput,
        message: "no".into(),
        usage: Some(usage(7)),
    };
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(
        &mut queue,
        event("1", TaskEvent::LinksExpired),
        "renew links 1",
    );
    check(
        &mut queue,
        event("1", TaskEvent::Ended(failed)),
        "send finished 1 InvalidInput after 7 (no)",
    );
}

#[test]
fn a_command_that_this_version_does_not_know_changes_nothing() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, received(Command::Unknown), "");
    check(&mut queue, Event::Connected, "hello 1:starting");
}

#[test]
fn a_pipeline_that_the_worker_cannot_do_is_refused_by_name() {
    let mut queue = ready(1);
    let mut noop = task("1", "a");
    noop.pipeline = Pipeline::Noop(Default::default());
    noop.models.clear();
    check(
        &mut queue,
        received(Command::Run(noop)),
        "send finished 1 Internal (this worker cannot do the pipeline noop, only upscale)",
    );
}

#[test]
fn a_task_waits_for_all_its_models_and_fails_with_one_of_them() {
    let mut queue = connected(1);
    check(
        &mut queue,
        configure(&["a", "b", "c"]),
        "send model a Loading; send model b Loading; send model c Loading; hold a b c",
    );
    let with_adapter = |step: &str, adapter: &str| {
        let mut run = task(step, "a");
        run.models.push(task_model("adapter", adapter));
        received(Command::Run(run))
    };
    check(&mut queue, with_adapter("1", "b"), "");
    check(&mut queue, with_adapter("2", "c"), "");
    check(
        &mut queue,
        model("a", ModelState::Ready),
        "send model a Ready",
    );
    let wrong = ModelState::Failed {
        message: "y.safetensors is cut short".into(),
    };
    check(
        &mut queue,
        model("c", wrong),
        "send model c Failed; send finished 2 WeightsFailed (model c: y.safetensors is cut short)",
    );
    check(
        &mut queue,
        model("b", ModelState::Ready),
        "send model b Ready; start 1",
    );
}

#[test]
fn what_is_loaded_is_said_when_it_changes_and_in_each_hello() {
    let mut queue = ready(1);
    let loaded = |models: &[&str], free| {
        let models = models.iter().map(|name| LoadedModel {
            digest: digest(name),
            bytes: 9,
        });
        Event::Loaded {
            models: models.collect(),
            free,
        }
    };
    check(
        &mut queue,
        loaded(&["a"], Some(5)),
        "send loaded digest of a",
    );
    check(&mut queue, loaded(&["a"], Some(4)), "");
    let said = queue.handle(Event::Connected);
    let [Effect::Send(WorkerMessage::Hello(hello))] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!(hello.loaded.len(), 1);
    assert_eq!((hello.protocols, hello.memory), (PROTOCOLS, Some(1 << 30)));
    assert_eq!(hello.pipelines, ["upscale"]);
    check(&mut queue, loaded(&[], Some(9)), "send loaded ");
}

#[test]
fn a_model_that_fails_fails_its_tasks_and_no_others() {
    let mut queue = connected(1);
    check(
        &mut queue,
        configure(&["a", "b"]),
        "send model a Loading; send model b Loading; hold a b",
    );
    check(&mut queue, run("1", "a"), "");
    check(&mut queue, run("2", "b"), "");
    let wrong = ModelState::Failed {
        message: "x.safetensors is cut short".into(),
    };
    check(
        &mut queue,
        model("a", wrong),
        "send model a Failed; send finished 1 WeightsFailed (model a: x.safetensors is cut short)",
    );
    check(
        &mut queue,
        model("b", ModelState::Ready),
        "send model b Ready; start 2",
    );
    check(
        &mut queue,
        run("3", "c"),
        "send finished 3 WeightsChanged (the worker's pool does not hold the model c any more)",
    );
}

#[test]
fn weights_that_changed_since_the_step_was_placed_do_not_run_under_the_old_digest() {
    let mut queue = connected(1);
    check(
        &mut queue,
        configure(&["a"]),
        "send model a Loading; hold a",
    );
    let mut run = task("1", "a");
    run.models[0].digest = "digest of other weights".into();
    check(
        &mut queue,
        received(Command::Run(run)),
        "send finished 1 WeightsChanged (the pool's weights for model a have changed since the step was placed)",
    );
}

#[test]
fn other_weights_under_a_ready_models_name_are_not_ready() {
    let mut queue = ready(1);
    let mut other = ModelConfig {
        name: "a".into(),
        digest: "digest of other weights".into(),
        files: vec![],
    };
    let configured = received(Command::Configure {
        models: vec![other.clone()],
    });
    check(&mut queue, configured, "send model a Loading; hold a");
    // What is still said of the old ones is of no interest.
    check(&mut queue, model("a", ModelState::Ready), "");
    other.digest = digest("a");
    let configured = received(Command::Configure {
        models: vec![other],
    });
    check(&mut queue, configured, "send model a Loading; hold a");
}

#[test]
fn a_new_configuration_keeps_what_is_ready_and_forgets_what_is_gone() {
    let mut queue = ready(1);
    check(
        &mut queue,
        configure(&["a", "b"]),
        "send model a Ready; send model b Loading; hold a b",
    );
    check(
        &mut queue,
        configure(&["b"]),
        "send model b Loading; hold b",
    );
    check(&mut queue, model("a", ModelState::Ready), "");
    check(&mut queue, Event::ModelLinksExpired, "renew model links");
}
