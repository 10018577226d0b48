//! The "other data" of R1's pipeline: short prompts that need no calculation, in English and
//! Chinese, each with an answer a rule can check. The catalogue is closed (a thousand or so
//! prompts); an *item*, such as "translate apple, asked in English", is either for training or held
//! out. Held-out items ask what training shows from another side (the other direction or language).

mod words;

use std::sync::LazyLock;

use super::{Check, Detail, Problem, Split, Task, Worked, in_split, problem_rng};
use crate::language::Language;
use crate::random::{Rng, hash_key, hash_text};
use words::{CATEGORIES, CHAT, COLOURS, ChatLines, OPPOSITES, WORDS};

/// The task named `general`.
pub struct General;

/// What the model calls itself.
pub const MODEL_NAME: &str = "Fathom";

/// Kinds of prompt.
pub const KINDS: [&str; 9] = [
    "greeting",
    "thanks",
    "identity",
    "translate",
    "repeat",
    "colour",
    "category",
    "opposite",
    "letter",
];

/// One thing to ask for, with its wordings and its gold response.
struct Item {
    kind: &'static str,
    language: Language,
    identity: u64,
    questions: Vec<String>,
    answer: String,
    check: Check,
    thought: &'static str,
    reply: String,
}

/// Every item, by kind and then language.
static CATALOGUE: LazyLock<Vec<Item>> = LazyLock::new(|| {
    let all = KINDS.iter().flat_map(|kind| Language::ALL.map(|language| (*kind, language)));
    all.flat_map(|(kind, language)| items(kind, language)).collect()
});

impl Task for General {
    fn name(&self) -> &'static str {
        "general"
    }

    fn description(&self) -> &'static str {
        "greetings and small questions about words, in English and Chinese"
    }

    fn kinds(&self) -> &'static [&'static str] {
        &KINDS
    }

    fn problem(&self, seed: u64, split: Split, index: u64) -> Problem {
        let mut rng = problem_rng(hash_text("general"), seed, split, index);
        let kind = *rng.pick(&KINDS);
        let language = *rng.pick(&Language::ALL);
        let fitting: Vec<&Item> = CATALOGUE
            .iter()
            .filter(|item| item.kind == kind && item.language == language)
            .filter(|item| in_split(item.identity, split))
            .collect();
        let item = *rng.pick(&fitting); // a test holds that no list is empty
        let question = rng.pick(&item.questions).clone();
        Problem {
            id: hash_text(&question),
            task: "general",
            kind,
            difficulty: 1,
            language,
            question,
            answer: item.answer.clone(),
            check: item.check,
            identity: item.identity,
            detail: Detail::General {
                thought: item.thought.to_string(),
                reply: item.reply.clone(),
            },
        }
    }

    /// The gold response. It exists in the language of the question only, which is used whatever
    /// `_language` says.
    fn worked(&self, problem: &Problem, _language: Language, _rng: &mut Rng) -> Worked {
        match &problem.detail {
            Detail::General { thought, reply } => {
                Worked { reasoning: thought.clone(), final_answer: reply.clone() }
            }
            Detail::Arithmetic(_) => panic!("`{}` is not a general prompt", problem.question),
        }
    }
}

fn items(kind: &'static str, language: Language) -> Vec<Item> {
    match kind {
        "translate" => translations(language),
        "repeat" => repetitions(language),
        "colour" => colours(language),
        "category" => categories(language),
        "opposite" => opposites(language),
        "letter" => letters(language),
        chat => CHAT
            .iter()
            .filter(|lines| lines.kind == chat && lines.language == language)
            .flat_map(chat_items)
            .collect(),
    }
}

/// The text of the language at hand.
fn say(language: Language, english: &'static str, chinese: &'static str) -> &'static str {
    match language {
        Language::English => english,
        Language::Chinese => chinese,
    }
}

/// Builds an item; `asked` names it within its kind and language.
fn item(kind: &'static str, language: Language, asked: &str) -> Item {
    Item {
        kind,
        language,
        identity: hash_key(&[hash_text(kind), hash_text(language.code()), hash_text(asked)]),
        questions: Vec::new(),
        answer: String::new(),
        check: Check::ContainsAny,
        thought: "",
        reply: String::new(),
    }
}

/// Every pairing of a way to begin with a line.
fn chat_items(lines: &ChatLines) -> Vec<Item> {
    let pairs = lines.starts.iter().flat_map(|start| lines.lines.map(|line| (start, line)));
    let build = |(start, line): (&&str, &str)| {
        let question = format!("{start}{line}");
        Item {
            answer: lines.answer.to_string(),
            thought: lines.thought,
            reply: lines.reply.replace("{name}", MODEL_NAME),
            ..item(lines.kind, lines.language, &question)
        }
        .asking([question])
    };
    pairs.map(build).collect()
}

impl Item {
    fn asking<const N: usize>(mut self, questions: [String; N]) -> Self {
        self.questions = questions.into();
        self
    }
}

fn translations(language: Language) -> Vec<Item> {
    let build = |&(english, chinese, _): &(&str, &str, usize)| {
        let thought = say(language, "A word to translate.", "这是翻译。");
        let to_chinese = match language {
            Language::English => [
                format!("What is {english} in Chinese?"),
                format!("Translate {english} into Chinese."),
            ],
            Language::Chinese => {
                [format!("{english} 用中文怎么说？"), format!("把 {english} 翻译成中文。")]
            }
        };
        let to_english = match language {
            Language::English => [
                format!("What is {chinese} in English?"),
                format!("Translate {chinese} into English."),
            ],
            Language::Chinese => {
                [format!("{chinese}用英语怎么说？"), format!("把{chinese}翻译成英语。")]
            }
        };
        let reply = |word: &str| match language {
            Language::English => format!("It is {word}."),
            Language::Chinese => format!("是{word}。"),
        };
        [
            Item {
                answer: chinese.to_string(),
                thought,
                reply: reply(chinese),
                ..item("translate", language, &format!("{english} to zh"))
            }
            .asking(to_chinese),
            Item {
                answer: english.to_string(),
                thought,
                reply: reply(english),
                ..item("translate", language, &format!("{english} to en"))
            }
            .asking(to_english),
        ]
    };
    WORDS.iter().flat_map(build).collect()
}

fn repetitions(language: Language) -> Vec<Item> {
    let pairs = WORDS.iter().flat_map(|word| (2..=5).map(move |times| (word, times)));
    let build = |(&(english, chinese, _), times): (&(&str, &str, usize), usize)| {
        let (word, join, end) = match language {
            Language::English => (english, " ", "."),
            Language::Chinese => (chinese, "，", "。"),
        };
        let said = vec![word; times].join(join);
        let questions = match language {
            Language::English => [
                format!("Say {word} {times} times."),
                format!("Repeat the word {word} {times} times."),
            ],
            Language::Chinese => {
                [format!("把{word}说{times}遍。"), format!("重复{times}次：{word}")]
            }
        };
        Item {
            answer: said.clone(),
            check: Check::Equals,
            thought: say(language, "I repeat the word.", "我来重复。"),
            reply: said + end,
            ..item("repeat", language, &format!("{english} {times}"))
        }
        .asking(questions)
    };
    pairs.map(build).collect()
}

fn colours(language: Language) -> Vec<Item> {
    let build = |&(things, colour): &([&str; 2], [&str; 2])| {
        let (questions, answer, reply) = match language {
            Language::English => (
                [
                    format!("What colour is {}?", things[0]),
                    format!("Name the colour of {}.", things[0]),
                ],
                colour[0],
                format!("It is {}.", colour[0]),
            ),
            Language::Chinese => (
                [format!("{}是什么颜色？", things[1]), format!("说出{}的颜色。", things[1])],
                colour[1],
                format!("是{}。", colour[1]),
            ),
        };
        Item {
            answer: answer.to_string(),
            thought: say(language, "I think of its colour.", "想一想它的颜色。"),
            reply,
            ..item("colour", language, things[0])
        }
        .asking(questions)
    };
    COLOURS.iter().map(build).collect()
}

fn categories(language: Language) -> Vec<Item> {
    let build = |&(english, chinese, category): &(&str, &str, usize)| {
        let (article, english_class, chinese_class) = CATEGORIES[category];
        let (questions, answer, reply) = match language {
            Language::English => (
                [
                    format!("What kind of thing is {english}?"),
                    format!("What does the word {english} name?"),
                ],
                english_class,
                format!("It is {article} {english_class}."),
            ),
            Language::Chinese => (
                [format!("{chinese}属于哪一类？"), format!("{chinese}是什么种类？")],
                chinese_class,
                format!("它是{chinese_class}。"),
            ),
        };
        Item {
            answer: answer.to_string(),
            thought: say(language, "I think of what it is.", "想一想它是什么。"),
            reply,
            ..item("category", language, english)
        }
        .asking(questions)
    };
    WORDS.iter().map(build).collect()
}

fn opposites(language: Language) -> Vec<Item> {
    let both_ways = OPPOSITES.iter().flat_map(|&[a, b]| [(a, b), (b, a)]);
    let build = |(word, opposite): ((&str, &str), (&str, &str))| {
        let (questions, answer, reply) = match language {
            Language::English => (
                [
                    format!("What is the opposite of {}?", word.0),
                    format!("Name the opposite of {}.", word.0),
                ],
                opposite.0,
                format!("The opposite of {} is {}.", word.0, opposite.0),
            ),
            Language::Chinese => (
                [format!("{}的反义词是什么？", word.1), format!("说出{}的反义词。", word.1)],
                opposite.1,
                format!("{}的反义词是{}。", word.1, opposite.1),
            ),
        };
        Item {
            answer: answer.to_string(),
            thought: say(language, "I think of the opposite.", "想一想反义词。"),
            reply,
            ..item("opposite", language, word.0)
        }
        .asking(questions)
    };
    both_ways.map(build).collect()
}

fn letters(language: Language) -> Vec<Item> {
    let build = |&(word, _, _): &(&'static str, &str, usize)| {
        let ends =
            [("first", "第一", word.chars().next()), ("last", "最后一", word.chars().last())];
        ends.map(|(english_end, chinese_end, letter)| {
            let letter = letter.map(String::from).unwrap_or_default();
            let questions = match language {
                Language::English => [
                    format!("What is the {english_end} letter of {word}?"),
                    format!("Give the {english_end} letter of {word}."),
                ],
                Language::Chinese => [
                    format!("{word} 的{chinese_end}个字母是什么？"),
                    format!("写出 {word} 的{chinese_end}个字母。"),
                ],
            };
            Item {
                answer: letter.clone(),
                check: Check::Equals,
                thought: say(language, "I look at the word.", "看一看这个单词。"),
                reply: letter,
                ..item("letter", language, &format!("{word} {english_end}"))
            }
            .asking(questions)
        })
    };
    WORDS.iter().flat_map(build).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::language::language_share;

    #[test]
    fn every_kind_and_language_has_items_in_both_splits() {
        for kind in KINDS {
            for language in Language::ALL {
                for split in [Split::Train, Split::HeldOut] {
                    let fitting = CATALOGUE.iter().filter(|item| {
                        (item.kind, item.language) == (kind, language)
                            && in_split(item.identity, split)
                    });
                    assert!(fitting.count() > 0, "{kind} {language:?} {split:?}");
                }
            }
        }
    }

    #[test]
    fn no_question_is_asked_in_both_splits() {
        let asked = |split| -> BTreeSet<&str> {
            let items = CATALOGUE.iter().filter(move |item| in_split(item.identity, split));
            items.flat_map(|item| item.questions.iter().map(String::as_str)).collect()
        };
        let (train, held_out) = (asked(Split::Train), asked(Split::HeldOut));
        assert_eq!(train.intersection(&held_out).count(), 0);
        assert!(train.len() + held_out.len() > 800, "{} prompts", train.len() + held_out.len());
    }

    #[test]
    fn thoughts_are_in_the_language_of_the_question() {
        for item in CATALOGUE.iter() {
            assert_eq!(language_share(item.thought, item.language), Some(1.0), "{}", item.thought);
            assert!(item.reply.chars().count() <= crate::grade::MAX_CONTAINING_CHARS);
        }
    }
}
