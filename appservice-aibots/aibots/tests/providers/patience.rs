//! Trying again, resting, and asking somebody else.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use aibots::{
    provider::{Error, Message, Progress, Request, Role},
    providers::{Kind, OFFLINE, ProviderSettings, provider},
};
use mock_providers::{MockProvider, Reply, Step, openai};
use serde_json::{Value, json};

use crate::stage::{candidate, completions, configured, question, staged};

fn failure() -> Reply {
    Reply::json(500, &Value::Null)
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_was_shown_is_taken_back() {
    let broken = Reply::events([openai::text("Hel")]).then(Step::Break);
    let limited = Reply::json(429, &Value::Null).header("retry-after-ms", "20");
    let script = [failure(), broken, limited, openai::stream(&["Hello!"])];
    let (mock, provider) = staged(Kind::OpenRouter, script).await;
    let (completions, _) = completions([provider]);
    let (progress, watcher) = Progress::watched();
    let answer = completions.answer(question(), &[candidate("mock", "m")], &progress).await.unwrap();
    assert_eq!((answer.text.as_str(), watcher.borrow().as_str()), ("Hello!", "Hello!"));
    assert_eq!(mock.asked().len(), 4);
    assert!(mock.asked().iter().all(|asked| asked.body["model"] == "m"));
}

#[tokio::test]
async fn what_will_not_pass_is_not_tried_again() {
    for status in [400, 401, 402, 403, 404] {
        let (mock, provider) = staged(Kind::OpenRouter, []).await;
        mock.otherwise(Reply::json(status, &Value::Null));
        let (completions, _) = completions([provider]);
        let outcome = completions.answer(question(), &[candidate("mock", "m")], &Progress::silent()).await;
        assert!(outcome.is_err());
        assert_eq!(mock.asked().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn another_model_is_asked_when_the_first_fails() {
    let (first_mock, first) = staged(Kind::OpenRouter, [Reply::json(402, &Value::Null)]).await;
    let (completions, _) = completions([first]);
    let candidates = [candidate("mock", "m"), candidate("nobody", "x"), candidate(OFFLINE, "friendly-assistant")];
    let answer = completions.answer(question(), &candidates, &Progress::silent()).await.unwrap();
    assert!(answer.text.contains("no language model"), "{}", answer.text);
    assert!(answer.usage.is_some());
    assert_eq!(first_mock.asked().len(), 1);

    let (mock, provider) =
        staged(Kind::OpenRouter, [openai::error(403, "x", &json!(403), "flagged by moderation")]).await;
    let (completions, _) = crate::stage::completions([provider]);
    let candidates = [candidate("mock", "m"), candidate(OFFLINE, "friendly-assistant")];
    let outcome = completions.answer(question(), &candidates, &Progress::silent()).await;
    assert_eq!(outcome, Err(Error::ContentRefused), "nobody else is asked for what one refuses");
    assert_eq!(mock.asked().len(), 1);
}

#[tokio::test]
async fn a_dead_provider_costs_nothing_until_it_is_well_again() {
    let (mock, provider) = staged(Kind::OpenRouter, []).await;
    mock.otherwise(failure());
    let (completions, clock) = completions([provider]);
    let candidates = [candidate("mock", "m")];
    let silent = Progress::silent();
    let ask = || completions.answer(question(), &candidates, &silent);
    assert!(ask().await.is_err());
    let asked = mock.asked().len();
    assert!((2..=6).contains(&asked), "{asked}");
    assert!(completions.are_failing(&candidates));
    for _ in 0..5 {
        assert_eq!(ask().await, Err(Error::Resting));
    }
    assert_eq!(mock.asked().len(), asked, "it is left alone");
    mock.otherwise(openai::stream(&["well"]));
    clock.0.fetch_add(3_600_000, Ordering::Relaxed);
    assert_eq!(ask().await.unwrap().text, "well");
    assert!(!completions.are_failing(&candidates));
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_shortened() {
    let too_long = || openai::error(400, "invalid_request_error", &json!("context_length_exceeded"), "too long");
    let (mock, provider) = staged(Kind::OpenAi, [too_long(), too_long(), openai::stream(&["ok"])]).await;
    let (completions, _) = completions([provider]);
    let turn = |n: usize| Message::text(if n.is_multiple_of(2) { Role::User } else { Role::Assistant }, n.to_string());
    let request = Request { messages: (0..9).map(turn).collect(), ..question() };
    let answer = completions.answer(request, &[candidate("mock", "m")], &Progress::silent()).await.unwrap();
    assert_eq!(answer.text, "ok");
    let lengths: Vec<usize> =
        mock.asked().iter().map(|asked| asked.body["messages"].as_array().unwrap().len()).collect();
    assert_eq!(lengths, [10, 6, 4], "with the system prompt");
    assert_eq!(mock.asked()[2].body["messages"][3]["content"], "8", "the question is always there");
}

#[tokio::test]
async fn usage_that_nobody_tells_is_estimated() {
    let events = [openai::text("Hello there"), openai::finish("stop"), openai::done()];
    let (_mock, provider) = staged(Kind::OpenAi, [Reply::events(events)]).await;
    let (completions, _) = completions([provider]);
    let answer = completions.answer(question(), &[candidate("mock", "m")], &Progress::silent()).await.unwrap();
    let usage = answer.usage.unwrap();
    assert!(usage.input_tokens >= 10 && usage.output_tokens >= 3, "{usage:?}");
}

#[tokio::test]
async fn a_configuration_makes_providers() {
    let (mock, _) = staged(Kind::Compatible, [openai::whole("from the configuration")]).await;
    let text = format!(
        "[local]\nkind = \"compatible\"\nbase_url = \"{}/\"\nstreaming = false\n[local.models.tiny]\ncontext_tokens = 2048\nvision = true\n",
        mock.url()
    );
    let completions = configured(&toml::from_str(&text).unwrap());
    let tiny = candidate("local", "tiny");
    assert_eq!((completions.context_tokens(&tiny), completions.sees(&tiny)), (2048, true));
    let answer = completions.answer(question(), &[tiny], &Progress::silent()).await.unwrap();
    assert_eq!(answer.text, "from the configuration");
    assert_eq!(mock.asked()[0].body.get("stream"), None);
    assert!(completions.has_provider(OFFLINE) && !completions.has_provider("other"));

    for (text, complaint) in [
        ("[x]\nkind = \"compatible\"\n", "`base_url` is missing"),
        ("[x]\nkind = \"openai\"\nbase_url = \"file:///etc\"\n", "must begin with http"),
        ("[x]\nkind = \"openai\"\nkey_file = \"/nowhere/key\"\n", "cannot read `key_file` /nowhere/key"),
    ] {
        let settings: BTreeMap<String, ProviderSettings> = toml::from_str(text).unwrap();
        let (world, _) = crate::stage::world();
        let outcome = aibots::providers::Completions::new(&settings, &|_| None, &crate::stage::http(), world);
        let error = outcome.err().expect(text).to_string();
        assert!(error.contains(complaint), "{error}");
    }
    assert!(
        toml::from_str::<ProviderSettings>("kind = \"openai\"\nkey = \"sk-1\"").is_err(),
        "keys do not belong here"
    );
}

#[tokio::test]
async fn a_provider_that_is_slow_keeps_nobody_from_another() {
    let hangs = || Reply::steps(200, "application/json", vec![Step::Hang]);
    let (slow, slow_provider) = staged(Kind::Compatible, [hangs(), hangs()]).await;
    let fast = MockProvider::start([openai::whole("quick")]).await.unwrap();
    let settings = ProviderSettings { streaming: false, ..crate::stage::settings(Kind::Compatible, &fast.url()) };
    let environment = |_: &str| Some("key".to_owned());
    let fast_provider = provider("fast", &settings, &environment, &crate::stage::http()).unwrap();
    let (completions, _) = completions([slow_provider, fast_provider]);
    let completions = completions.with_answers_at_once(1);
    let [of_slow, of_fast] = ["mock", "fast"].map(|provider| [candidate(provider, "m")]);
    let silent = Progress::silent();
    let waiting = || completions.answer(question(), &of_slow, &silent);
    tokio::select! {
        _ = waiting() => panic!("it does not answer"),
        _ = waiting() => panic!("nor does it here"),
        answer = async {
            while slow.asked().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            completions.answer(question(), &of_fast, &silent).await
        } => assert_eq!(answer.unwrap().text, "quick"),
    }
    assert_eq!(slow.asked().len(), 1, "the second waits for the first");
}

#[tokio::test]
async fn nobody_switches_a_model_off_with_questions_that_have_no_answer() {
    let (mock, provider) = staged(Kind::OpenAi, []).await;
    mock.otherwise(openai::stream(&[]));
    let (completions, _) = completions([provider]);
    let candidates = [candidate("mock", "m")];
    for asked in 1..=10 {
        let outcome = completions.answer(question(), &candidates, &Progress::silent()).await;
        assert_eq!((outcome, mock.asked().len()), (Err(Error::Empty), asked), "it is not asked twice");
    }
    assert!(!completions.are_failing(&candidates));
}

#[tokio::test]
async fn what_comes_to_nothing_is_not_free() {
    let broken = Reply::events([openai::text("Hello there")]).then(Step::Break);
    let script = [failure(), broken, openai::stream(&[])];
    let (_mock, provider) = staged(Kind::OpenRouter, script).await;
    let (completions, _) = completions([provider]);
    let progress = Progress::silent();
    let outcome = completions.answer(question(), &[candidate("mock", "m")], &progress).await;
    assert_eq!(outcome, Err(Error::Empty));
    let once = aibots::context::estimate_usage(&question(), "");
    let lost = progress.lost();
    assert_eq!(lost.input_tokens, 2 * once.input_tokens, "the first was refused before it began");
    assert!(lost.output_tokens >= 3, "{lost:?}");
}
