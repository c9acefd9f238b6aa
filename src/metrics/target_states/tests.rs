use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::jobs::Status;
use crate::metrics::Collector;
use crate::metrics::fixtures::{Fixture, MINUTE, account, identity, later, now, part, published, state};
use crate::proptests::exposition::Exposition;

fn names(states: &TargetStates, now: Timepoint) -> Vec<String> {
    states.read(now).iter().map(|target| target.identity.name.clone()).collect()
}

#[test]
fn an_unchanged_part_is_neither_rendered_nor_stored_again() {
    let now = now();
    let fixture = Fixture::new();
    let slot = fixture.slot("t", state(3, now));
    fixture.states.arrange([&slot]);
    let before = fixture.states.read(now).remove(0);

    let mut next = state(3, later(now, MINUTE));
    next.ended = Some(published(part(Status::Completed, 4), now));
    slot.publish(next);
    let after = fixture.states.read(now).remove(0);
    let [old, new] = [&before, &after].map(|target| target.open.as_ref().expect("a part"));
    assert!(Arc::ptr_eq(old, new), "the open part is equal");
    let kept = &after.state.open.as_ref().expect("a part").part;
    assert!(Arc::ptr_eq(kept, &old.part), "and kept once");
    let [old, new] = [&before, &after].map(|target| target.ended.as_ref().expect("a part"));
    assert!(!Arc::ptr_eq(old, new), "the ended part has changed");
}

#[test]
fn an_unchanged_state_changes_nothing() {
    let now = now();
    let fixture = Fixture::new();
    let slot = fixture.slot("t", state(3, now));
    fixture.states.arrange([&slot]);
    let before = fixture.states.read(now).remove(0);
    slot.publish(state(3, now));
    assert!(Arc::ptr_eq(&before, &fixture.states.read(now).remove(0)));
}

#[test]
fn another_account_renders_equal_parts_again() {
    let now = now();
    let fixture = Fixture::new();
    let slot = fixture.slot("t", state(3, now));
    fixture.states.arrange([&slot]);
    let other = AccountId::parse("210987654321").expect("an account");
    slot.publish(TargetState { account: Some(other.clone()), ..state(3, now) });
    let text = fixture.text(now);
    assert!(text.contains(other.as_str()) && !text.contains(account().as_str()), "{text}");
    slot.publish(TargetState { account: None, ..state(3, now) });
    let text = fixture.text(now);
    assert!(text.contains("\naws_iot_jobs_up{") && !text.contains("\naws_iot_jobs{"), "no account, no job families");
}

#[test]
fn readers_withdraw_stale_parts_until_they_are_published_again() {
    let now = now();
    let fixture = Fixture::new();
    let mut start = state(3, now);
    start.ended.as_mut().expect("a part").stale_after = 30 * MINUTE;
    let slot = fixture.slot("t", start);
    fixture.states.arrange([&slot]);
    let shown = |now| {
        let target = fixture.states.read(now).remove(0);
        let listing = target.state.all_jobs.as_ref().expect("enabled");
        (target.open.is_some(), target.ended.is_some(), target.state.open_jobs.is_up(), listing.is_up())
    };
    assert_eq!(shown(later(now, 9 * MINUTE)), (true, true, true, true));
    assert_eq!(shown(later(now, 10 * MINUTE)), (false, true, false, true));
    assert_eq!(shown(later(now, 30 * MINUTE)), (false, false, false, false));
    slot.publish(state(3, later(now, 31 * MINUTE)));
    assert_eq!(shown(later(now, 32 * MINUTE)), (true, true, true, true));
}

#[test]
fn exactly_the_arranged_targets_are_shown_with_their_last_states() {
    let now = now();
    let fixture = Fixture::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| fixture.slot(name, TargetState::default()));
    assert!(names(&fixture.states, now).is_empty());
    b.publish(state(3, now));
    fixture.states.arrange([&c, &b]);
    assert_eq!(names(&fixture.states, now), ["c", "b"]);
    assert!(fixture.states.read(now)[1].open.is_some(), "published before it was shown");
    fixture.states.arrange([&a, &c]);
    b.publish(state(4, now));
    assert_eq!(names(&fixture.states, now), ["a", "c"], "a target that is gone can still publish");
    assert_eq!(a.shown().identity.name, "a");
}

#[test]
fn an_overlap_is_reported_once_when_the_second_account_becomes_known() {
    let now = now();
    let fixture = Fixture::new();
    let [a, b] = ["a", "b"].map(|name| fixture.slot(name, TargetState::default()));
    fixture.states.arrange([&a, &b]);
    let jobs = std::cell::Cell::new(0);
    let publish = |slot: &Slot, account: &str| {
        jobs.set(jobs.get() + 1);
        let account = Some(AccountId::parse(account).expect("an account"));
        slot.publish(TargetState { account, ..state(jobs.get(), now) }).map(|other| other.name.clone())
    };
    let (one, another) = ("012345678901", "210987654321");
    assert_eq!(publish(&a, one), None, "the account of b is unknown");
    assert_eq!(publish(&b, one).as_deref(), Some("a"));
    assert_eq!((publish(&a, one), publish(&b, one)), (None, None), "it was found before");
    assert_eq!(publish(&a, another), None);
    assert_eq!(publish(&a, one).as_deref(), Some("b"));
}

#[test]
fn region_server_and_filter_make_a_source_and_the_order_of_statuses_does_not() {
    use Status::{Completed, InProgress};
    let with = |statuses: &[Status]| config::Target {
        scope: Scope { statuses: statuses.to_vec(), ..Scope::default() },
        ..config::Target::default()
    };
    let plain = config::Target::default();
    let elsewhere = config::Target { endpoint_url: Some("http://127.0.0.1:4566".to_owned()), ..plain.clone() };
    let region = "eu-west-1";
    assert_ne!(JobSource::new(region, &plain), JobSource::new("us-east-1", &plain));
    assert_ne!(JobSource::new(region, &plain), JobSource::new(region, &elsewhere));
    assert_ne!(JobSource::new(region, &plain), JobSource::new(region, &with(&[InProgress])));
    assert_eq!(
        JobSource::new(region, &with(&[InProgress, Completed])),
        JobSource::new(region, &with(&[Completed, InProgress]))
    );
}

/// A worker publishes while a reload replaces its neighbour by another target with the same name, and back, in another
/// order.
#[test]
fn a_concurrent_scrape_sees_each_target_once_and_each_state_whole() {
    let now = now();
    let fixture = Fixture::new();
    let slot = |name: &str, jobs| fixture.states.slot(identity(name), JobSource::default(), state(jobs, now));
    let (stays, old, new) = (slot("stays", 0), slot("replaced", 1), slot("replaced", 2));
    fixture.states.arrange([&stays, &old]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for jobs in 0.. {
                stays.publish(state(jobs, now));
                stays.counters().run_ended(crate::metrics::Collector::OpenJobs);
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                fixture.states.arrange([&new, &stays]);
                fixture.states.arrange([&stays, &old]);
            }
        });
        let scrape = || {
            let text = fixture.text(now);
            // Parsing fails for duplicate series.
            let read = Exposition::read(text.as_bytes(), false).expect("an exposition");
            let of = |name: &str, target: &str| -> Vec<u64> {
                let samples = read.family(name).filter(|(labels, _)| labels.get("target") == Some(target));
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
                samples.map(|(_, value)| value as u64).collect()
            };
            for target in ["stays", "replaced"] {
                let (jobs, walked) = (of("aws_iot_jobs", target), of("aws_iot_jobs_walk_jobs", target));
                assert_eq!((jobs.len(), walked.len()), (2, 2), "{target}: {jobs:?} {walked:?}");
                assert!(jobs.iter().chain(&walked).all(|count| *count == jobs[0]), "{target}: {jobs:?} {walked:?}");
            }
            let runs: u64 = of("aws_iot_jobs_exporter_collector_runs_total", "stays").iter().sum();
            assert!(runs <= of("aws_iot_jobs", "stays")[0] + 1, "counted before its data was there");
        };
        // A failed check must end the others as well.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (0..100).for_each(|_| scrape())));
        is_over.store(true, Ordering::Relaxed);
        outcome.expect("every scrape is whole");
    });
}

#[test]
fn counters_restart_only_if_the_labels_change() {
    let now = now();
    let fixture = Fixture::new();
    let slot = fixture.slot("t", state(3, now));
    slot.counters().run_ended(Collector::OpenJobs);
    let same = slot.changed(identity("t"), JobSource::default());
    assert!(Arc::ptr_eq(&same.cell, &slot.cell));
    let moved = slot.changed(
        identity("t"),
        JobSource { endpoint_url: Some("http://other.test".to_owned()), ..JobSource::default() },
    );
    assert!(Arc::ptr_eq(&moved.counters(), &slot.counters()) && moved.shown().state == slot.shown().state);
    let labels = vec![("team".to_owned(), "x".to_owned())];
    let relabelled = slot.changed(Identity { labels, ..identity("t") }, JobSource::default());
    assert_eq!(
        (relabelled.counters().runs(Collector::OpenJobs), relabelled.shown().state == slot.shown().state),
        (0, true)
    );
    fixture.states.arrange([&relabelled]);
    let text = fixture.text(now);
    let is_relabelled = |line: &str| !line.starts_with("aws_iot_jobs{") || line.contains("team=\"x\"");
    assert!(text.contains("\naws_iot_jobs{") && text.lines().all(is_relabelled), "{text}");
}
