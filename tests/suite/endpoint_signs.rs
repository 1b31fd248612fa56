//! The endpoint judge against servers whose replies must not be taken at face value: replies that were cut or broken
//! off, models that see no picture, errors that no further try mends, words that say neither yes nor no.

use dpg_bench::judge::endpoint::EndpointJudge;
use dpg_bench::results::AnswerOutcome;
use serde_json::{Value, json};

use super::endpoint::{judge, options};
use super::loopback::{Loopback, Received, Reply, say, well_behaved};
use super::small_run::{items, journal, judge_all, run_with_pictures};

fn completion(content: &str, finish: &str, usage: &Value) -> Reply {
    let message = json!({"role": "assistant", "content": content});
    let choice = json!({"index": 0, "message": message, "finish_reason": finish});
    Reply::Json(json!({"choices": [choice], "usage": usage}))
}

/// `{"error": {"message": ...}}`.
fn told(words: &str) -> String {
    json!({"error": {"message": words}}).to_string()
}

#[test]
fn a_reply_that_was_broken_off_is_asked_for_again() {
    for finish in ["error", "abort"] {
        let server = Loopback::start(move |request| match request.index {
            0..5 => completion("Yes", finish, &Value::Null),
            _ => well_behaved(request),
        });
        let judged = judge(1, options(&server));
        assert!(judged.counts.as_ref().unwrap().is_complete(), "{:?}", judged.failures());
        assert_eq!(server.received().len(), 12 + 5, "{finish}");
    }
    let failing = |request: &Received| {
        if !request.prompt().contains("thing 2") {
            return well_behaved(request);
        }
        Reply::Json(json!({"choices": [{
            "message": {"content": "Yes"}, "finish_reason": "stop",
            "error": {"code": 502, "message": "Provider fell over"},
        }]}))
    };
    let server = Loopback::start(failing);
    let mut once = options(&server);
    once.retries = 1;
    let judged = judge(1, once);
    assert_eq!(judged.failures().len(), 4);
    assert!(
        judged.failures()[0].contains("Provider fell over (2 tries)"),
        "{:?}",
        judged.failures()
    );
}

#[test]
fn a_cut_reply_is_marked_counted_and_only_a_bare_word_is_an_answer() {
    let server = Loopback::start(|request| {
        if request.prompt().contains("thing 1") {
            completion("No, wait. First I should look", "length", &Value::Null)
        } else if request.prompt().contains("thing 2") {
            completion("No.", "length", &Value::Null)
        } else {
            completion("No, there is none.", "stop", &Value::Null)
        }
    });
    let judged = judge(1, options(&server));
    let counts = judged.counts.as_ref().unwrap();
    assert_eq!((counts.answers, counts.unparsable, counts.replies_cut), (12, 4, 8));
    let record = &judged.run.read_answers("j").unwrap()[0];
    let said: Vec<(&str, bool)> = record
        .answers
        .iter()
        .map(|answer| match &answer.outcome {
            AnswerOutcome::Answered { text, .. } => (text.as_str(), answer.reply_cut),
            AnswerOutcome::Failed { reason } => panic!("{reason}"),
        })
        .collect();
    assert_eq!(said, [("No, wait. First I should look", true), ("no", true), ("no", false)]);
    let text = String::from_utf8(journal(&judged.run)).unwrap();
    assert_eq!(text.matches("\"reply_cut\":true").count(), 8);
    assert!(!text.contains("\"reply_cut\":false"));
}

#[test]
fn a_filter_that_withholds_a_reply_fails_the_question() {
    let server = Loopback::start(|request| match request.prompt().contains("thing 2") {
        true => completion("", "content_filter", &Value::Null),
        false => well_behaved(request),
    });
    let judged = judge(1, options(&server));
    assert_eq!(judged.failures().len(), 4);
    assert!(judged.failures()[0].contains("content_filter"), "{:?}", judged.failures());
    assert_eq!(server.received().len(), 12, "asking again gives the same");
}

/// Counts tokens as a server does whose model takes no pictures, or one that does.
fn counting(request: &Received, sees: bool) -> Reply {
    let picture = if sees && !request.is_blind() { 64 } else { 0 };
    completion("Yes", "stop", &json!({"prompt_tokens": 20 + picture, "completion_tokens": 1}))
}

#[test]
fn a_model_that_sees_no_picture_is_found_out_at_first_contact() {
    let server = Loopback::start_blind(|request| counting(request, false));
    let judged = judge(50, options(&server));
    let error = judged.error();
    for words in
        ["does not show the images", "20 tokens", "the reply is the same", "--judge-no-probe"]
    {
        assert!(error.contains(words), "{words}: {error}");
    }
    assert!(server.received().len() <= 8 + 1, "{}", server.received().len());
    assert!(judged.run.read_answers("j").unwrap().is_empty(), "nothing is recorded");

    let mut sure = options(&server);
    sure.probe = false;
    assert!(judge(1, sure).counts.unwrap().is_complete());

    let server = Loopback::start_blind(|request| counting(request, true));
    let judged = judge(1, options(&server));
    assert!(judged.counts.as_ref().unwrap().is_complete());
    let blind = server.received().iter().filter(|request| request.is_blind()).count();
    assert_eq!(
        (server.received().len(), blind),
        (13, 1),
        "one question is asked without its picture"
    );
}

#[test]
fn where_no_tokens_are_counted_equal_probabilities_tell() {
    let same = |_: &Received| {
        let alternatives =
            json!([{"token": "Yes", "logprob": -0.1}, {"token": "No", "logprob": -2.4}]);
        let logprobs =
            json!({"content": [{"token": "Yes", "logprob": -0.1, "top_logprobs": alternatives}]});
        Reply::Json(json!({"choices": [
            {"message": {"content": "Yes"}, "logprobs": logprobs, "finish_reason": "stop"}
        ]}))
    };
    let server = Loopback::start_blind(same);
    let error = judge(2, options(&server)).error();
    assert!(error.contains("the probabilities of its tokens are the same"), "{error}");

    // Nothing to go by: the run goes on, and says so.
    let server = Loopback::start_blind(|_| say("Yes"));
    let judged = judge(1, options(&server));
    assert!(judged.counts.as_ref().unwrap().is_complete());
    assert!(judged.remarks[0].contains("usage.prompt_tokens"), "{:?}", judged.remarks);

    // A server that wants a picture looks at it.
    let server = Loopback::start_blind(|request| match request.is_blind() {
        true => Reply::Status(400, vec![], told("a picture is needed")),
        false => well_behaved(request),
    });
    let judged = judge(1, options(&server));
    assert!(judged.counts.as_ref().unwrap().is_complete());
    assert!(judged.remarks[0].contains("a picture is needed"), "{:?}", judged.remarks);
}

#[test]
fn the_closing_lines_say_that_there_is_no_probability() {
    let server = Loopback::start(|_| say("Yes"));
    let judged = judge(1, options(&server));
    assert_eq!(judged.remarks.len(), 1);
    assert!(judged.remarks[0].contains("gave no logprobs although they were asked for"));
    let mut unasked = options(&server);
    unasked.logprobs = false;
    assert!(judge(1, unasked).remarks.is_empty());
    let mut taken_out = options(&server);
    taken_out.body = serde_json::from_str(r#"{"logprobs": null, "top_logprobs": null}"#).unwrap();
    assert!(judge(1, taken_out).remarks.is_empty());
    let server = Loopback::start(well_behaved);
    assert!(judge(1, options(&server)).remarks.is_empty());
}

#[test]
fn what_no_further_try_mends_stops_the_run_at_once_with_a_hint() {
    let listed = json!({"detail": [
        {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 0}
    ]});
    for (status, body, hints) in [
        (
            400,
            told("API key not valid. Please pass a valid API key."),
            &["refuses the key", "--judge-key-env"][..],
        ),
        (403, told("Incorrect API key provided"), &["--judge-key-env"]),
        (
            429,
            told("You exceeded your current quota, please check your plan and billing details."),
            &["quota"],
        ),
        (
            400,
            told("Invalid model name passed in model=tiny/vlm"),
            &["does not know the model `tiny/vlm`", "--judge-model"],
        ),
        (
            500,
            "tiny/vlm is not a local folder and is not a valid model identifier".to_owned(),
            &["--judge-model"],
        ),
        (
            400,
            told("Unsupported parameter: 'logprobs' is not supported with this model."),
            &["--judge-no-logprobs"],
        ),
        (
            403,
            told("You are not allowed to request logprobs from this model"),
            &["--judge-no-logprobs"],
        ),
        (400, told("Logprobs is not enabled for models/x"), &["--judge-no-logprobs"]),
        (
            422,
            json!({"detail": "Unexpected fields in the request: {'logprobs'}"}).to_string(),
            &["--judge-no-logprobs"],
        ),
        (
            400,
            told("Requested sample logprobs of 20, which is greater than max allowed: 5"),
            &["--judge-body '{\"top_logprobs\": 5}'"],
        ),
        (422, listed.to_string(), &["--judge-body '{\"seed\": null}'"]),
        (
            500,
            "cannot identify image file <_io.BytesIO object>".to_owned(),
            &["cannot take the image", "PNG"],
        ),
        (
            500,
            told("image input is not supported by this server"),
            &["takes no images", "--mmproj"],
        ),
        (
            200,
            json!({"error": "Unexpected endpoint or method. (POST /x)"}).to_string(),
            &["--judge-url", "/v1"],
        ),
        (
            200,
            json!({"error": "No models loaded. Please load a model"}).to_string(),
            &["--judge-model"],
        ),
    ] {
        let reply = body.clone();
        let server = Loopback::start(move |_| Reply::Status(status, vec![], reply.clone()));
        let judged = judge(50, options(&server));
        let error = judged.error();
        for hint in hints {
            assert!(error.contains(hint), "{status} {body}: {error}");
        }
        assert!(server.received().len() <= 8, "{status} {body}: {}", server.received().len());
        assert!(judged.run.read_answers("j").unwrap().is_empty());
    }
}

#[test]
fn an_error_without_words_stops_the_run_after_the_first_questions() {
    let server =
        Loopback::start(|_| Reply::Status(500, vec![], "Internal Server Error".to_owned()));
    let mut patient = options(&server);
    patient.retries = 2;
    let error = judge(50, patient).error();
    assert!(error.contains("the first 3 questions") && error.contains("--judge-model"), "{error}");
    // Those that were in flight end their tries.
    assert!(server.received().len() <= 3 * (3 + 8), "{}", server.received().len());
}

#[test]
fn after_an_answer_a_picture_fails_alone_and_a_key_still_stops() {
    let server = Loopback::start(|request| match request.prompt().contains("thing 2") {
        true => Reply::Status(500, vec![], "cannot identify image file".to_owned()),
        false => well_behaved(request),
    });
    let mut one = options(&server);
    one.concurrency = 1;
    let judged = judge(1, one);
    assert_eq!(judged.failures().len(), 4);
    assert_eq!(server.received().len(), 12, "asking again gives the same");

    let server = Loopback::start(|request| match request.index {
        0..7 => well_behaved(request),
        _ => Reply::Status(400, vec![], told("API key not valid")),
    });
    let mut one = options(&server);
    one.concurrency = 1;
    let judged = judge(4, one);
    assert!(judged.error().contains("refuses the key"), "{}", judged.error());
    assert_eq!(judged.run.read_answers("j").unwrap().len(), 2, "what was answered is kept");
}

#[test]
fn a_judge_that_says_neither_yes_nor_no_is_stopped_with_examples() {
    let vague = |request: &Received| {
        say(&format!(
            "I see <<{}>>",
            request.prompt().split_whitespace().nth(4).unwrap_or_default()
        ))
    };
    let mut journals = Vec::new();
    for concurrency in [1, 8] {
        let server = Loopback::start(vague);
        let mut several = options(&server);
        several.concurrency = concurrency;
        let judged = judge(20, several);
        let error = judged.error();
        assert!(
            error.contains("102 of 102 answers are neither yes nor no, more than 20 %"),
            "{error}"
        );
        assert!(error.contains("`I see <<1>>`, `I see <<2>>`, `I see <<5>>`"), "{error}");
        assert!(error.contains("--judge-max-unparsable 1"), "{error}");
        journals.push(journal(&judged.run));
    }
    assert!(journals[0] == journals[1], "it stops at the same answer");
    let server = Loopback::start(vague);
    let mut all = options(&server);
    all.max_unparsable = 1.0;
    let judged = judge(20, all);
    assert_eq!(judged.counts.as_ref().unwrap().unparsable, 240);
    // One in six is no reason to stop.
    let server = Loopback::start(|request| match request.draw() < 1.0 / 6.0 {
        true => say("Perhaps"),
        false => well_behaved(request),
    });
    let judged = judge(20, options(&server));
    assert!(judged.counts.as_ref().unwrap().unparsable > 10);
}

#[test]
fn a_later_sitting_with_nothing_left_but_what_fails_goes_on() {
    for (status, words) in [(500, "cannot identify image file"), (500, "Internal Server Error")] {
        let items = items(2);
        let folder = tempfile::tempdir().unwrap();
        let run = run_with_pictures(folder.path(), &items);
        for sitting in 0..2 {
            let server =
                Loopback::start(move |request| match request.prompt().contains("thing 2") {
                    true => Reply::Status(status, vec![], words.to_owned()),
                    false => well_behaved(request),
                });
            let mut options = options(&server);
            options.retries = 0;
            let judge = EndpointJudge::new(options).unwrap();
            let counts = judge_all(&run, &items, &judge).unwrap();
            assert_eq!((counts.answers, counts.failed_questions), (16, 8), "{words}, {sitting}");
            assert_eq!(server.received().len(), if sitting == 0 { 24 } else { 8 });
        }
    }
}
