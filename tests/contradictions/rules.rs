//! What cannot stand beside what. A rule gives what it found, and nothing where all is well.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::Truth;
use super::answer::Answer;

type Rule = fn(&Answer, Option<&Truth>) -> Option<&'static str>;

const RULES: [Rule; 24] = [
    all_online_beside_one_offline,
    more_online_than_there_are,
    failures_left_do_not_add_up,
    numbers_in_words_are_not_those_of_the_group,
    quorum_lost_beside_enough,
    quorum_lost_beside_enough_in_words,
    removed_beside_a_quorum_that_is_lost,
    removal_advised_and_forbidden,
    removal_without_condition_and_cost,
    removal_of_one_that_answers,
    start_of_one_that_answers,
    start_of_a_server_named_by_an_id,
    bring_back_those_that_answer,
    crashed_beside_an_announcement,
    no_announcement_beside_one,
    no_announcement_while_we_were_blind,
    routes_without_a_witness_of_its_cluster,
    held_routes_beside_none,
    never_heard_beside_a_contact,
    silent_beside_an_answer,
    none_answered_beside_an_announcement,
    leader_beside_none,
    recovered_beside_a_flag,
    frozen_beside_a_monitoring_that_is_stuck,
];

/// What every rule finds.
pub(super) fn all(answer: &Answer, truth: Option<&Truth>) -> Vec<String> {
    let found = RULES.iter().filter_map(|rule| rule(answer, truth));
    found.map(|what| format!("{what}: {} {}: {}", answer.check, answer.state, answer.text())).collect()
}

/// What the findings of one report say against each other, against its status, and against its counts.
pub(super) fn together(report: &Value, answers: &[Answer]) -> Vec<String> {
    let mut found = Vec::new();
    let text: String = answers.iter().map(|answer| answer.text() + " | ").collect();
    if says(&text, &PEER_REMOVE) && says(&text, &NO_REMOVAL) {
        found.push(format!("peer-remove is advised and forbidden in one report: {text}"));
    }
    let faults = |check: &str| {
        answers.iter().filter(|answer| answer.state == "firing" && answer.check == check).count()
    };
    let status = report["status"].as_str().unwrap_or_default();
    if faults("META_001") + faults("META_006") > 0 && status != "CRITICAL" {
        found.push(format!("{status} beside a fault: {text}"));
    }
    let offline: u64 =
        report["groups"].as_array().into_iter().flatten().filter_map(|group| group["offline"].as_u64()).sum();
    if offline != faults("META_001") as u64 {
        found.push(format!("{offline} counted as offline, {} found", faults("META_001")));
    }
    found
}

macro_rules! words {
    ($($name:ident = $pattern:literal;)*) => {
        $(static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(concat!("(?i)", $pattern)).expect("a pattern"));)*
    };
}

words! {
    PEER_REMOVE = r"peer-remove|SERVER\.REMOVE|remove (its|the) peer";
    NO_REMOVAL = r"(do not|never|don't) remove (a |any |the )?peers?\b";
    QUORUM_LOST = r"lost its quorum|quorum (of \d+ )?is lost|JetStream API does not work";
    TOO_FEW = r"lost its quorum|quorum (of \d+ )?is lost";
    ONLINE = r"(\d+) of (\d+) (?:meta )?(?:peers|members) (?:are )?online";
    ANSWERING = r"(\d+) of (\d+) (?:meta )?(?:peers|members) (?:are )?answer(?:ing)?\b";
    MUST_AGREE = r"(\d+) must agree";
    FAILURES = r"\b(no|\d+) failures? left";
    NO_ANNOUNCEMENT = r"without an? (?:announcement|word)|announced no stop|announced nothing";
    NO_ROUTE = r"(?:no server|nobody) holds a route|every route to it closed";
    STUCK = r"answers STATSZ|takes part|monitoring is stuck";
    NEVER_HEARD = r"(?:ever|never) heard of it|never seen";
    NO_LEADER = r"nobody leads|no leader|no member (?:leads|has claimed)";
    LED_BY = r"\bled by (\S+)";
    BRING_BACK = r"bring back ([^:|]*)";
}

fn says(text: &str, words: &Regex) -> bool {
    words.is_match(text)
}

/// The first number of what is found.
fn number(text: &str, words: &Regex, at: usize) -> Option<u64> {
    words.captures(text)?.get(at)?.as_str().parse().ok()
}

fn online(answer: &Answer) -> Option<(u64, u64)> {
    answer.group.as_ref().and_then(|group| group.online.zip(group.size))
}

/// Whether the peer answered as an enabled member in this epoch.
fn answers(answer: &Answer, truth: Option<&Truth>) -> bool {
    let disabled = answer.evidence.as_ref().is_some_and(|evidence| evidence.disabled);
    let answered = |name: &String| truth.is_some_and(|truth| truth.answered.contains(&answer.server(name)));
    !disabled && answer.name.as_ref().is_some_and(answered)
}

fn stands(answer: &Answer) -> bool {
    matches!(answer.state.as_str(), "firing" | "suspected")
}

fn all_online_beside_one_offline(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let in_words = ONLINE.captures(&answer.summary).is_some_and(|found| found[1] == found[2]);
    let all = in_words || online(answer).is_some_and(|(online, size)| online >= size);
    (answer.accuses() && all).then_some("all are online, and one is offline")
}

fn more_online_than_there_are(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let more = |text: &str, words: &Regex| {
        number(text, words, 1).zip(number(text, words, 2)).is_some_and(|(some, all)| some > all)
    };
    let in_words = more(&answer.text(), &ONLINE) || more(&answer.text(), &ANSWERING);
    let counted = online(answer).is_some_and(|(online, size)| online > size);
    (in_words || counted).then_some("more are there than there are")
}

fn failures_left_do_not_add_up(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let group = answer.group.as_ref()?;
    let (online, quorum, left) = (group.online?, group.quorum?, group.failures_left);
    let right = i64::try_from(online).ok()? - i64::try_from(quorum).ok()?;
    // With enough online it can be that no failure is left; with too few it cannot be that one is.
    (left != Some(right)).then_some("failures_left is not online less quorum")
}

fn numbers_in_words_are_not_those_of_the_group(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let group = answer.group.as_ref()?;
    let text = &answer.summary;
    let differs = |words: &Regex, at: usize, counted: Option<u64>| {
        number(text, words, at).is_some_and(|said| counted.is_some_and(|counted| counted != said))
    };
    let left = FAILURES.captures(text).map(|found| found[1].parse::<i64>().unwrap_or(0));
    let wrong = differs(&ONLINE, 1, group.online)
        || differs(&ONLINE, 2, group.size)
        || differs(&MUST_AGREE, 1, group.quorum)
        || left.is_some_and(|left| group.failures_left.is_some_and(|counted| counted != left));
    wrong.then_some("the summary has other numbers than the group")
}

fn quorum_lost_beside_enough(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let group = answer.group.as_ref()?;
    let enough = group.online? >= group.quorum?;
    (stands(answer) && enough && says(&answer.text(), &QUORUM_LOST))
        .then_some("the quorum is lost, and enough are online")
}

fn quorum_lost_beside_enough_in_words(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let text = answer.text();
    let answering = number(&text, &ANSWERING, 1)?;
    let needed = number(&text, &MUST_AGREE, 1).or(answer.group.as_ref()?.quorum)?;
    (says(&text, &TOO_FEW) && answering >= needed).then_some("the quorum is lost, and enough answer")
}

fn removed_beside_a_quorum_that_is_lost(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let lost = says(&answer.summary, &QUORUM_LOST)
        || answer.group.as_ref().is_some_and(|group| group.failures_left.is_some_and(|left| left < 0));
    (answer.reason == "removed" && lost).then_some("it was removed, and nobody could agree")
}

fn removal_advised_and_forbidden(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let text = answer.text();
    (says(&text, &PEER_REMOVE) && says(&text, &NO_REMOVAL)).then_some("peer-remove is advised and forbidden")
}

fn removal_without_condition_and_cost(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let removes = |advice: &&String| says(advice, &PEER_REMOVE);
    let bare = |advice: &String| {
        let lower = advice.to_lowercase();
        !(lower.contains("if ") && lower.contains("5 min"))
    };
    answer
        .advice
        .iter()
        .filter(removes)
        .any(bare)
        .then_some("peer-remove is advised without its condition or its cost")
}

fn removal_of_one_that_answers(answer: &Answer, truth: Option<&Truth>) -> Option<&'static str> {
    let removes = answer.advice.iter().any(|advice| says(advice, &PEER_REMOVE));
    (removes && answers(answer, truth)).then_some("peer-remove is advised for one that answers as a member")
}

fn start_of_one_that_answers(answer: &Answer, truth: Option<&Truth>) -> Option<&'static str> {
    let again = format!("start {}", answer.name.as_deref().unwrap_or_default());
    // Not `restart s3`, which is for one that runs.
    let starts = |advice: &String| {
        let advice = format!(" {advice} ");
        advice.contains("start it again") || advice.contains(&format!(" {again} "))
    };
    let start = answer.advice.iter().any(starts);
    // It can have answered a moment before it announced its stop.
    let announced = answer.evidence.as_ref().is_some_and(|evidence| evidence.announced.is_some());
    (start && !announced && answers(answer, truth)).then_some("it is to be started, and answers as a member")
}

fn start_of_a_server_named_by_an_id(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let id = answer.id.as_ref().filter(|_| answer.name.is_none())?;
    let named = answer.advice.iter().filter(|advice| !says(advice, &PEER_REMOVE));
    let forms =
        [format!("named {id}"), format!("start {id}"), format!("process of {id}"), format!("log of {id}")];
    let found = named.into_iter().any(|advice| forms.iter().any(|form| advice.contains(form)));
    found.then_some("a peer id is no name of a server")
}

fn bring_back_those_that_answer(answer: &Answer, truth: Option<&Truth>) -> Option<&'static str> {
    let (text, truth) = (answer.advice.join(" | "), truth?);
    let names = BRING_BACK.captures(&text)?;
    let mut names = names[1].split([',', ' ']).map(str::trim).filter(|name| !name.is_empty());
    names
        .any(|name| truth.answered.contains(&answer.server(name)))
        .then_some("one that answers is to be brought back")
}

fn crashed_beside_an_announcement(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let announced = answer.evidence.as_ref().is_some_and(|evidence| evidence.announced.is_some());
    let crashed = answer.cause.starts_with("crashed") || answer.summary.contains("(crashed");
    (stands(answer) && announced && crashed).then_some("it crashed, and announced its stop")
}

fn no_announcement_beside_one(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let text = answer.text();
    let announced = answer.evidence.as_ref().is_some_and(|evidence| evidence.announced.is_some())
        || text.contains("it announced its stop");
    (announced && says(&text, &NO_ANNOUNCEMENT)).then_some("it announced its stop, and did not")
}

/// Whoever heard nothing at all for a while cannot say what was not announced then.
fn no_announcement_while_we_were_blind(answer: &Answer, truth: Option<&Truth>) -> Option<&'static str> {
    let (last_heard, since) = (answer.last_heard?, answer.since?);
    let blind = truth?.blind.iter().any(|(from, to)| *to > last_heard && *from <= since);
    (blind && says(&answer.text(), &NO_ANNOUNCEMENT))
        .then_some("nothing was announced while nobody could hear it")
}

/// Routes join servers of one cluster only: nobody else can say that one has gone. Who goes on with the word
/// of an earlier run has its witnesses no more.
fn routes_without_a_witness_of_its_cluster(answer: &Answer, truth: Option<&Truth>) -> Option<&'static str> {
    let (evidence, truth) = (answer.evidence.as_ref()?, truth?);
    let text = answer.text();
    let told_before = text.contains("what was told of it first");
    let claims = answer.cause == "crashed" || says(&text, &NO_ROUTE);
    let own = answer.name.as_ref().and_then(|name| truth.clusters.get(&answer.server(name)));
    let testifies = |(name, route): (&String, &String)| {
        route == "lost" && own.is_some() && truth.clusters.get(&answer.server(name)) == own
    };
    let witness = evidence.routes.iter().any(testifies);
    (stands(answer) && claims && !told_before && !witness)
        .then_some("nobody of its cluster said that its routes are gone")
}

fn held_routes_beside_none(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let held = answer.evidence.as_ref()?.routes.values().any(|route| route == "held");
    (held && says(&answer.text(), &NO_ROUTE)).then_some("a route is held, and none is")
}

fn never_heard_beside_a_contact(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let contact =
        answer.evidence.as_ref().is_some_and(|evidence| evidence.contact_ns.is_some_and(|ago| ago > 0));
    let heard = answer.last_heard.is_some() || contact;
    (heard && says(&answer.text(), &NEVER_HEARD)).then_some("it was heard, and never was")
}

fn silent_beside_an_answer(answer: &Answer, truth: Option<&Truth>) -> Option<&'static str> {
    let silent = answer.summary.contains("it does not answer") || answer.summary.contains("did not answer");
    (stands(answer) && silent && answers(answer, truth)).then_some("it does not answer, and does")
}

fn none_answered_beside_an_announcement(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let announced = answer.evidence.as_ref().is_some_and(|evidence| evidence.announced.is_some());
    let none = answer.summary.contains("none of ");
    (announced && none).then_some("an announced stop needs no replies: none were due")
}

fn leader_beside_none(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let leader = answer.group.as_ref().and_then(|group| group.leader.as_ref());
    let none_said = stands(answer) && says(&answer.summary, &NO_LEADER);
    let said =
        LED_BY.captures(&answer.summary).map(|found| found[1].trim_end_matches([':', ',', ';']).to_owned());
    let wrong = (leader.is_some() && none_said)
        || said.is_some_and(|said| leader.is_none_or(|leader| *leader != said));
    wrong.then_some("somebody leads, and nobody or another one does")
}

fn recovered_beside_a_flag(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let flagged = answer.evidence.as_ref()?.flag == Some(true);
    (answer.reason == "recovered" && flagged).then_some("it is back, and the leader calls it offline")
}

fn frozen_beside_a_monitoring_that_is_stuck(answer: &Answer, _: Option<&Truth>) -> Option<&'static str> {
    let frozen = answer.cause == "frozen_or_partitioned" || answer.summary.contains("(frozen");
    (frozen && says(&answer.text(), &STUCK)).then_some("it is frozen, and takes part")
}
