use std::io::Read as _;
use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::jobs::Status;
use crate::metrics::TargetState;
use crate::metrics::fixtures::{
    Fixture, MINUTE, any_state, any_targets, count_all, later, now, part, published, state,
};
use crate::metrics::{JobSource, Slot};
use crate::proptests::cases;
use crate::proptests::exposition::Exposition as Reader;

const FORMATS: [Format; 2] = [Format::Text, Format::OpenMetrics];

fn unzipped(body: ResponseBody) -> Vec<u8> {
    let (member, mut plain) = (body.into_bytes(), Vec::new());
    let mut decoder = flate2::bufread::GzDecoder::new(&member[..]);
    decoder.read_to_end(&mut plain).expect("gzip");
    assert!(decoder.into_inner().is_empty(), "one member");
    plain
}

#[test]
fn help_is_escaped_for_each_format() {
    assert_eq!(escape_help(Format::OpenMetrics, "a \"b\"\\\n"), r#"a \"b\"\\\n"#);
    assert_eq!(escape_help(Format::Text, "a \"b\"\\\n"), r#"a "b"\\\n"#);
}

#[test]
fn each_format_has_its_own_headers() {
    let family = &catalogue::PROCESS_CPU;
    assert_eq!(
        header(Format::OpenMetrics, family),
        "# HELP process_cpu_seconds Total user and system CPU time spent in seconds.\n# TYPE process_cpu_seconds counter\n\
         # UNIT process_cpu_seconds seconds\n"
    );
    assert_eq!(
        header(Format::Text, family),
        "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.\n\
         # TYPE process_cpu_seconds_total counter\n"
    );
}

#[test]
fn stale_data_is_absent_and_up_is_0_even_if_the_worker_hangs() {
    let now = now();
    let fixture = Fixture::new();
    let slot = fixture.slot("t", state(3, now));
    fixture.states.arrange([&slot]);
    let shown = |now| {
        let text = fixture.text(now);
        let read = Reader::read(text.as_bytes(), false).expect("an exposition");
        (read.sum("aws_iot_jobs"), read.sum("aws_iot_jobs_up"), read.sum("aws_iot_jobs_walk_jobs"))
    };
    assert_eq!(shown(later(now, 9 * MINUTE)), (Some(6.0), Some(1.0), Some(6.0)));
    assert_eq!(shown(later(now, 10 * MINUTE)), (None, Some(0.0), Some(6.0)));
}

#[test]
fn unknown_values_are_absent_and_known_absences_are_0() {
    let now = now();
    let fixture = Fixture::new();
    let slot = fixture.slot("t", TargetState::default());
    fixture.states.arrange([&slot]);
    let value = |name: &str| {
        let text = fixture.text(now);
        Reader::read(text.as_bytes(), false).expect("an exposition").sum(name)
    };
    for name in ["aws_iot_jobs_omitted_jobs", "aws_iot_jobs_folded_thing_groups", "aws_iot_jobs_target_info"] {
        assert_eq!(value(name), None, "{name}");
    }
    slot.publish(TargetState { ended: None, ..state(0, now) });
    for (name, expected) in [
        ("aws_iot_jobs", Some(0.0)),
        ("aws_iot_jobs_omitted_jobs", Some(0.0)),
        ("aws_iot_jobs_folded_thing_groups", Some(0.0)),
        ("aws_iot_jobs_target_info", Some(1.0)),
        ("aws_iot_jobs_overlapping_targets", Some(0.0)),
        ("aws_iot_jobs_undescribed", None),
        ("aws_iot_jobs_collector_success", None),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
    let mut open = part(Status::InProgress, 2);
    open.undescribed = Some(2);
    slot.publish(TargetState { open: Some(published(open, now)), ..state(2, now) });
    assert_eq!(value("aws_iot_jobs_undescribed"), Some(2.0));
}

#[test]
fn targets_with_the_same_jobs_count_each_other() {
    let now = now();
    let fixture = Fixture::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| fixture.slot(name, state(1, now)));
    c.publish(TargetState { account: None, ..TargetState::default() });
    fixture.states.arrange([&a, &b, &c]);
    let text = fixture.text(now);
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("aws_iot_jobs_overlapping_targets{")).collect();
    let of = |name: &str| format!("aws_iot_jobs_overlapping_targets{{target=\"{name}\",aws_region=\"eu-west-1\"}} 1");
    assert_eq!(lines, [of("a"), of("b")]);
}

#[tokio::test]
async fn a_scrape_sends_references_and_compresses_only_what_has_changed() {
    let now = now();
    let fixture = Fixture::new();
    let slot = fixture.slot("t", state(3, now));
    fixture.states.arrange([&slot]);
    let exposition = &fixture.exposition;
    for format in FORMATS {
        let (first, second) = (exposition.body(format, now).pieces(), exposition.body(format, now).pieces());
        assert!(first[0].starts_with(b"# HELP aws_iot_jobs "));
        assert_eq!(first[0].as_ptr(), second[0].as_ptr(), "of one allocation");
    }
    let compressed = async || {
        let body = exposition.gzip_body(Format::Text, now).await.expect("gzip");
        let [_, targets, counters, _]: [Bytes; 4] = body.pieces().try_into().expect("a header, two fragments, an end");
        (targets, counters)
    };
    let before = compressed().await;
    slot.counters().run_ended(crate::metrics::Collector::OpenJobs);
    let after = compressed().await;
    assert_eq!(after.0.as_ptr(), before.0.as_ptr(), "no target has changed");
    assert_ne!(after.1, before.1);
    let body = unzipped(exposition.gzip_body(Format::Text, now).await.expect("gzip"));
    let read = Reader::read(&body, false).expect("an exposition");
    assert_eq!(read.sum("aws_iot_jobs_exporter_collector_runs_total"), Some(1.0));
    slot.publish(state(4, now));
    let published = compressed().await;
    assert_ne!(published.0, after.0);
    assert_eq!(published.1.as_ptr(), after.1.as_ptr(), "no counter has changed");
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn any_targets_give_a_valid_exposition(targets in any_targets(now())) {
        let now = now();
        let fixture = Fixture::new();
        let slot = |(identity, state): &(_, TargetState)| -> Slot {
            let slot = fixture.states.slot(Clone::clone(identity), JobSource::default(), TargetState::default());
            slot.publish(state.clone());
            count_all(&slot);
            slot
        };
        let slots: Vec<Slot> = targets.iter().map(slot).collect();
        fixture.states.arrange(&slots);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for format in FORMATS {
            let plain = fixture.exposition.body(format, now).into_bytes().to_vec();
            let zipped = unzipped(runtime.block_on(fixture.exposition.gzip_body(format, now)).expect("gzip"));
            for body in [plain, zipped] {
                let read = Reader::read(&body, format == Format::OpenMetrics).map_err(TestCaseError::fail)?;
                let expected = targets.iter().filter(|(_, state)| state.account.is_some()).flat_map(|(_, state)| {
                    state.open.iter().chain(&state.ended).flat_map(|published| published.part.jobs.values())
                });
                #[expect(clippy::cast_precision_loss, reason = "the counts are small enough")]
                let expected = expected.map(|jobs| *jobs as f64).reduce(|a, b| a + b);
                prop_assert_eq!(read.sum("aws_iot_jobs"), expected);
                prop_assert_eq!(read.family("aws_iot_jobs_up").count(), targets.len());
                let names: Vec<&str> = read.family("aws_iot_jobs_up").map(|(labels, _)| labels.of("target")).collect();
                prop_assert!(targets.iter().all(|(identity, _)| names.contains(&&*identity.name)));
            }
        }
    }

    #[test]
    fn equal_targets_give_equal_bodies_in_the_order_of_the_catalogue(state in any_state(now())) {
        let now = now();
        let section = || {
            let fixture = Fixture::new();
            let slot = fixture.slot("t", state.clone());
            fixture.states.arrange([&slot]);
            let mut text = BytesMut::new();
            let [targets, _] = fixture.exposition.sections(Format::Text, now).shared;
            targets.pieces().iter().for_each(|piece| text.extend_from_slice(piece));
            String::from_utf8(text.to_vec()).expect("UTF-8")
        };
        let text = section();
        prop_assert_eq!(&text, &section());
        let shown: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let mut expected = catalogue::ALL.iter().map(|family| family.name);
        prop_assert!(shown.iter().all(|name| expected.any(|known| known == *name)), "{:?}", shown);
    }
}

#[test]
fn a_target_that_hangs_is_rendered_once_when_it_goes_stale() {
    let now = now();
    let fixture = Fixture::new();
    let slot = fixture.slot("t", state(3, now));
    fixture.states.arrange([&slot]);
    let section = |after: Duration| {
        let [targets, _] = fixture.exposition.sections(Format::Text, later(now, after)).shared;
        targets
    };
    let fresh = section(Duration::ZERO);
    assert!(Arc::ptr_eq(&fresh, &section(9 * MINUTE)), "kept while nothing goes stale");
    let stale = section(10 * MINUTE);
    assert!(!Arc::ptr_eq(&fresh, &stale));
    assert!(Arc::ptr_eq(&stale, &section(11 * MINUTE)), "and kept after that");
}
