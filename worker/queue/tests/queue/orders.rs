//! Which task starts when, and what if its order comes again, its model fails, or nobody wants it any more?

use framewright_crds::aijob::{Cause, Progress};
use framewright_crds::wire::{ModelOrder, ModelState, Order, Outcome};
use framewright_queue::{Event, News};

use crate::story::{
    cancel, check, connected, digest, done, id, model, news, ordered, output, ready, run, settled,
    task, welcome,
};

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
fn a_task_that_is_ordered_again_while_it_stops_starts_again() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, cancel("1"), "stop 1");
    check(&mut queue, run("1", "a"), "");
    check(&mut queue, Event::Connected, "hello 1:starting");
    check(&mut queue, news("1", News::Stopped), "start 1");
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
        "say finished 3 WeightsChanged (the worker's pool does not hold the model c any more)",
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
        "say finished 1 WeightsChanged (the pool's weights for model a are others now than when the step was placed)",
    );
}

#[test]
fn other_weights_under_a_ready_models_name_are_not_ready() {
    let mut queue = ready(1);
    let mut order = ModelOrder {
        name: "a".into(),
        digest: "digest of other weights".into(),
        files: vec![],
    };
    let welcome = ordered(Order::Welcome {
        models: vec![order.clone()],
    });
    check(&mut queue, welcome, "say model a Loading; hold a");
    // What is still said of the old ones is of no interest.
    check(&mut queue, model("a", ModelState::Ready), "");
    order.digest = digest("a");
    let welcome = ordered(Order::Welcome {
        models: vec![order],
    });
    check(&mut queue, welcome, "say model a Loading; hold a");
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
