//! Whatever bytes come, reading them ends in a value or in errors.

use model::Outcome;
use proptest::prelude::*;
use prost::Message;
use wire::error::Failure;
use wire::{convert, v1};

proptest! {
    #[test]
    fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(spec) = v1::JobSpec::decode(bytes.as_slice()) {
            let (spec, _) = convert::read_job(spec);
            let _ = model::validate::validate(&spec, &model::settings::Limits::default());
        }
        let _ = v1::Outcome::decode(bytes.as_slice()).map(Outcome::try_from);
        let _ = v1::Report::decode(bytes.as_slice()).map(machine::Report::try_from);
        let _ = v1::Hello::decode(bytes.as_slice())
            .map(|hello| convert::open_session(hello, model::SessionId(0), 0));
        let _ = v1::CancelRequest::decode(bytes.as_slice()).map(|asked| convert::targets(asked.targets));
    }

    /// Numbers at their ends, where sums and products overflow.
    #[test]
    fn no_numbers_are_a_panic(
        range in prop::array::uniform3(prop_oneof![Just(0), Just(1), Just(u32::MAX), any::<u32>()]),
        long in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
    ) {
        let [first, last, step] = range;
        let task = v1::TaskSpec {
            name: "a".to_owned(),
            kind: Some(v1::task_spec::Kind::Sleep(v1::Sleep { duration_us: long })),
            array: Some(v1::ArrayRange { first, last, step }),
            timeout_us: Some(long),
            retry: Some(v1::Retry { max: first, backoff_first_us: long, backoff_cap_us: long, lost_max: last }),
            resources: Some(v1::Resources { cpu: long, memory: long, ..Default::default() }),
            ..Default::default()
        };
        let other = v1::TaskSpec { name: "b".to_owned(), after_each: vec!["a".to_owned()], ..task.clone() };
        let spec = v1::JobSpec { delay_us: Some(long), tasks: vec![task, other], ..Default::default() };
        let (read, _) = convert::read_job(spec);
        let _ = model::validate::validate(&read, &model::settings::Limits::default());
        if let Ok(run) = model::Run::try_from(v1::Run { first, len: last }) {
            prop_assert!(run.end() >= run.first);
        }
    }

    #[test]
    fn any_text_survives_the_trailers(message in "\\PC{0,80}", fix in "[\\x20-\\x7e\n%é—]{0,80}") {
        let failure = Failure::no_leader(message).fix(fix);
        prop_assert_eq!(Failure::from(&tonic::Status::from(failure.clone())), failure);
    }
}
