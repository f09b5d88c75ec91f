//! How does a worker end: drained, or without its device?

use framewright_crds::protocol::ModelState;
use framewright_queue::{Event, Identity, Queue, TaskEvent};

use crate::story::{
    ack, cancel, check, configure, done, event, identity, model, proceed, ready, run, run_within,
};

#[test]
fn a_worker_that_drains_finishes_what_runs_and_takes_nothing_new() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, run("2", "a"), "");
    check(
        &mut queue,
        Event::Drain,
        "send draining; send finished 2 WorkerDrained (the worker ends and takes no new task)",
    );
    check(
        &mut queue,
        run("3", "a"),
        "send finished 3 WorkerDrained (the worker ends and takes no new task)",
    );
    assert!(!queue.is_drained());
    check(
        &mut queue,
        event("1", TaskEvent::Ended(done())),
        "send finished 1 Succeeded",
    );
    assert!(queue.is_drained());
    check(
        &mut queue,
        Event::Connected,
        "hello 1:finished 2:finished 3:finished; send draining",
    );
    check(&mut queue, ack("1"), "");
    check(&mut queue, ack("2"), "");
    check(&mut queue, ack("3"), "exit");
}

#[test]
fn a_worker_that_drains_does_not_wait_for_leave_to_compute() {
    let mut queue = ready(1);
    check(&mut queue, run_within("1", "a", 50), "start 1");
    let prepared = event("1", TaskEvent::Prepared { units: 40 });
    check(&mut queue, prepared, "send prepared 1 40");
    check(
        &mut queue,
        Event::Drain,
        "send draining; stop 1; \
         send finished 1 WorkerDrained (the worker ends and takes no new task)",
    );
    check(&mut queue, proceed("1"), "");
    check(&mut queue, event("1", TaskEvent::Stopped), "");
    check(
        &mut queue,
        Event::Connected,
        "hello 1:finished; send draining",
    );
    check(&mut queue, ack("1"), "exit");
}

#[test]
fn an_idle_worker_that_drains_ends_at_once() {
    check(&mut ready(1), Event::Drain, "send draining; exit");
}

#[test]
fn a_worker_that_has_lost_its_device_says_which_task_failed_takes_nothing_and_ends() {
    let mut queue = ready(2);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, run("2", "a"), "start 2");
    check(&mut queue, run("3", "a"), "");
    let lost = || TaskEvent::DeviceLost {
        message: "CUDA_ERROR_ILLEGAL_ADDRESS".into(),
        usage: None,
    };
    assert_eq!(queue.lost_device(), None);
    check(
        &mut queue,
        event("1", lost()),
        "send finished 1 DeviceError (CUDA_ERROR_ILLEGAL_ADDRESS); send draining; \
         send finished 3 WorkerDrained (the worker ends and takes no new task)",
    );
    assert_eq!(queue.lost_device(), Some("CUDA_ERROR_ILLEGAL_ADDRESS"));
    assert!(!queue.is_drained(), "task 2 has not ended");
    check(
        &mut queue,
        event("2", lost()),
        "send finished 2 DeviceError (CUDA_ERROR_ILLEGAL_ADDRESS)",
    );
    assert!(queue.is_drained());
    check(&mut queue, ack("1"), "");
    check(&mut queue, ack("2"), "");
    check(&mut queue, ack("3"), "exit");
}

#[test]
fn a_worker_whose_device_is_lost_between_tasks_ends() {
    let mut queue = ready(1);
    let message = "CUDA_ERROR_UNKNOWN (Xid 79)".to_owned();
    check(
        &mut queue,
        Event::DeviceLost { message },
        "send draining; exit",
    );
    assert_eq!(queue.lost_device(), Some("CUDA_ERROR_UNKNOWN (Xid 79)"));
}

#[test]
fn a_worker_whose_device_hangs_ends() {
    let mut queue = ready(1);
    check(&mut queue, run("1", "a"), "start 1");
    check(&mut queue, cancel("1"), "stop 1");
    check(&mut queue, event("1", TaskEvent::Hangs), "abort");
}

#[test]
fn a_worker_without_its_device_says_so_and_takes_no_task() {
    let mut queue = Queue::new(Identity {
        device_error: Some("no CUDA device".into()),
        ..identity(1)
    });
    check(&mut queue, Event::Connected, "hello (no CUDA device)");
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
    check(
        &mut queue,
        run("1", "a"),
        "send finished 1 DeviceError (no CUDA device)",
    );
}
