//! How does a worker end: drained, or without its device?

use framewright_crds::wire::ModelState;
use framewright_queue::{Event, Identity, News, Queue};

use crate::story::{cancel, check, done, identity, model, news, ready, run, settled, welcome};

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
fn an_idle_worker_that_drains_ends_at_once() {
    check(&mut ready(1), Event::Drain, "say draining; exit");
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
fn a_worker_whose_device_hangs_ends() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, cancel("1"), "stop 1");
    check(&mut queue, news("1", News::Hangs), "abort");
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
