//! The wording of arithmetic questions. In a template `{a}`, `{b}`, `{c}` are the operands, `{n}`
//! and `{m}` two people, `{o}` a thing (in Chinese with `{k}`, its measure word). Sentences are kept
//! short: every token of a prompt costs time in each of many rollouts.

use super::{Expression, Operation};
use crate::language::Language;
use crate::random::Rng;

/// The text of one question of `kind` about `expression`.
pub(super) fn question(
    kind: &str,
    expression: Expression,
    language: Language,
    rng: &mut Rng,
) -> String {
    if let ("add" | "sub" | "mul", Expression::One { operation, a, b }) = (kind, expression) {
        return bare(operation, a, b, language, rng);
    }
    let template = rng.pick(templates(kind, expression, language));
    let (a, b, c) = match expression {
        Expression::One { a, b, .. } => (a, b, 0),
        Expression::AddSub { a, b, c } | Expression::MulAdd { a, b, c } => (a, b, c),
    };
    let names = match language {
        Language::English => ENGLISH_NAMES,
        Language::Chinese => CHINESE_NAMES,
    };
    let first = rng.below(names.len() as u64) as usize;
    let second = (first + 1 + rng.below(names.len() as u64 - 1) as usize) % names.len();
    let (measure, thing) = match language {
        Language::English => ("", *rng.pick(ENGLISH_THINGS)),
        Language::Chinese => *rng.pick(CHINESE_THINGS),
    };
    template
        .replace("{a}", &a.to_string())
        .replace("{b}", &b.to_string())
        .replace("{c}", &c.to_string())
        .replace("{n}", names[first])
        .replace("{m}", names[second])
        .replace("{k}", measure)
        .replace("{o}", thing)
}

/// An exercise without a story.
fn bare(operation: Operation, a: u32, b: u32, language: Language, rng: &mut Rng) -> String {
    let sum = format!("{a} {} {b}", operation.sign());
    match (language, rng.weighted(&[3.0, 1.0, 1.0])) {
        (Language::English, 0) => format!("What is {sum}?"),
        (Language::English, 1) => format!("Compute {sum}."),
        (Language::Chinese, 0) => format!("{sum} 等于多少？"),
        (Language::Chinese, 1) => format!("计算 {sum}。"),
        (Language::English, _) => format!("{sum} = ?"),
        (Language::Chinese, _) => format!("{sum} = ？"),
    }
}

fn templates(kind: &str, expression: Expression, language: Language) -> &'static [&'static str] {
    let [english, chinese] = match (kind, expression) {
        ("compare_story", _) => COMPARE,
        (_, Expression::One { operation: Operation::Add, .. }) => ADD,
        (_, Expression::One { operation: Operation::Sub, .. }) => SUB,
        (_, Expression::One { operation: Operation::Mul, .. }) => MUL,
        (_, Expression::AddSub { .. }) => ADD_SUB,
        (_, Expression::MulAdd { .. }) => MUL_ADD,
    };
    match language {
        Language::English => english,
        Language::Chinese => chinese,
    }
}

/// English templates, then Chinese ones.
type Templates = [&'static [&'static str]; 2];

const ADD: Templates = [
    &[
        "{n} has {a} {o}. {m} gives {n} {b} more. How many {o} does {n} have now?",
        "{n} has {a} {o} and {m} has {b} {o}. How many {o} do they have in total?",
        "A shop sold {a} {o} on Monday and {b} on Tuesday. How many {o} did it sell in total?",
        "There are {a} {o} in one box and {b} in another. How many {o} are there in total?",
        "{n} buys {a} {o} and then {b} more. How many {o} did {n} buy?",
        "{n} found {a} {o} and {m} found {b}. How many {o} did they find in total?",
        "A room has {a} {o}. {n} brings {b} more. How many {o} are there now?",
    ],
    &[
        "{n}有{a}{k}{o}，{m}又给了{n}{b}{k}。{n}现在有多少{k}{o}？",
        "{n}有{a}{k}{o}，{m}有{b}{k}{o}。两人一共有多少{k}{o}？",
        "商店周一卖出{a}{k}{o}，周二卖出{b}{k}。一共卖出多少{k}{o}？",
        "一个箱子里有{a}{k}{o}，另一个有{b}{k}。一共有多少{k}{o}？",
        "{n}先买了{a}{k}{o}，又买了{b}{k}。{n}一共买了多少{k}{o}？",
        "{n}找到{a}{k}{o}，{m}找到{b}{k}。他们一共找到多少{k}{o}？",
        "房间里有{a}{k}{o}，{n}又拿来{b}{k}。现在有多少{k}{o}？",
    ],
];

const SUB: Templates = [
    &[
        "{n} has {a} {o} and gives {b} to {m}. How many {o} are left?",
        "There are {a} {o} in a box. {n} takes {b} out. How many {o} are left?",
        "A shop had {a} {o} and sold {b}. How many {o} are left?",
        "{n} had {a} {o} and lost {b}. How many {o} does {n} still have?",
        "{n} needs {a} {o} and has {b}. How many {o} are still missing?",
        "Of {a} {o}, {b} are old. How many {o} are not old?",
        "{n} had {a} {o} and used {b}. How many {o} are left?",
    ],
    &[
        "{n}有{a}{k}{o}，给了{m}{b}{k}。还剩多少{k}{o}？",
        "箱子里有{a}{k}{o}，{n}拿走{b}{k}。还剩多少{k}{o}？",
        "商店有{a}{k}{o}，卖出{b}{k}。还剩多少{k}{o}？",
        "{n}有{a}{k}{o}，丢了{b}{k}。{n}还有多少{k}{o}？",
        "{n}需要{a}{k}{o}，已经有{b}{k}。还差多少{k}{o}？",
        "一共有{a}{k}{o}，其中{b}{k}是旧的。有多少{k}{o}不是旧的？",
        "{n}有{a}{k}{o}，用了{b}{k}。还剩多少{k}{o}？",
    ],
];

const MUL: Templates = [
    &[
        "There are {b} boxes with {a} {o} each. How many {o} are there?",
        "{n} buys {b} bags with {a} {o} in each bag. How many {o} does {n} have?",
        "{n} sells {a} {o} every day. How many {o} does {n} sell in {b} days?",
        "Each of {b} rooms has {a} {o}. How many {o} are there in all rooms?",
        "{b} children get {a} {o} each. How many {o} is that?",
        "A shop has {b} rows of {a} {o}. How many {o} does it have?",
    ],
    &[
        "有{b}个箱子，每个箱子有{a}{k}{o}。有多少{k}{o}？",
        "{n}买了{b}袋，每袋有{a}{k}{o}。{n}有多少{k}{o}？",
        "{n}每天卖{a}{k}{o}，{b}天卖多少{k}{o}？",
        "有{b}个房间，每个房间有{a}{k}{o}。所有房间有多少{k}{o}？",
        "{b}个孩子每人得到{a}{k}{o}，要多少{k}{o}？",
        "商店有{b}排，每排{a}{k}{o}。商店有多少{k}{o}？",
    ],
];

const COMPARE: Templates = [
    &[
        "{n} has {a} {o} and {m} has {b}. How many more {o} does {n} have than {m}?",
        "{n} has {b} {o} and {m} has {a}. How many more {o} does {m} have?",
        "One box has {a} {o}, another has {b}. How many more {o} are in the first box?",
        "A shop sold {a} {o} on Monday and {b} on Tuesday. How many more on Monday?",
        "{n} found {b} {o}, {m} found {a}. How many fewer {o} did {n} find?",
        "{n} bought {a} {o} and {m} bought {b}. How many fewer {o} did {m} buy?",
    ],
    &[
        "{n}有{a}{k}{o}，{m}有{b}{k}。{n}比{m}多多少{k}{o}？",
        "{n}有{b}{k}{o}，{m}有{a}{k}。{m}比{n}多多少{k}{o}？",
        "第一个箱子有{a}{k}{o}，第二个有{b}{k}。第一个多多少{k}{o}？",
        "商店周一卖出{a}{k}{o}，周二卖出{b}{k}。周一多卖多少{k}？",
        "{n}找到{b}{k}{o}，{m}找到{a}{k}。{n}比{m}少多少{k}{o}？",
        "{n}买了{a}{k}{o}，{m}买了{b}{k}。{m}比{n}少多少{k}{o}？",
    ],
];

const ADD_SUB: Templates = [
    &[
        "{n} has {a} {o}, gets {b} more and gives {c} away. How many {o} are left?",
        "A shop had {a} {o}, bought {b} and sold {c}. How many {o} are left?",
        "A box has {a} {o}. {n} puts in {b} and takes out {c}. How many {o} are in it?",
        "{n} has {a} {o}, {m} has {b}. They lose {c} in all. How many {o} are left?",
        "{n} found {a} {o}, then {b} more, and used {c}. How many {o} are left?",
        "{n} and {m} bring {a} and {b} {o}. Then {c} are sold. How many {o} are left?",
    ],
    &[
        "{n}有{a}{k}{o}，又得到{b}{k}，送出{c}{k}。还剩多少{k}{o}？",
        "商店有{a}{k}{o}，买进{b}{k}，卖出{c}{k}。还剩多少{k}{o}？",
        "箱子里有{a}{k}{o}，{n}放进{b}{k}，拿走{c}{k}。箱子里有多少{k}{o}？",
        "{n}有{a}{k}{o}，{m}有{b}{k}，两人丢了{c}{k}。还剩多少{k}{o}？",
        "{n}找到{a}{k}{o}，又找到{b}{k}，用了{c}{k}。还剩多少{k}{o}？",
        "{n}和{m}拿来{a}{k}和{b}{k}{o}，卖出{c}{k}。还剩多少{k}{o}？",
    ],
];

const MUL_ADD: Templates = [
    &[
        "{n} has {b} boxes with {a} {o} each and {c} more {o}. How many {o} does {n} have?",
        "{n} buys {b} bags with {a} {o} each. {m} gives {n} {c} more. How many {o} now?",
        "{n} sells {a} {o} a day for {b} days, then {c} more. How many {o} in total?",
        "Each of {b} rooms has {a} {o}. A shop has {c} {o}. How many {o} in total?",
        "{b} children get {a} {o} each, and {c} {o} are left. How many {o} were there?",
        "There are {b} rows of {a} {o} and {c} {o} in a box. How many {o} in total?",
    ],
    &[
        "{n}有{b}个箱子，每个箱子有{a}{k}{o}，另外还有{c}{k}。{n}有多少{k}{o}？",
        "{n}买了{b}袋，每袋{a}{k}{o}，{m}又给了{c}{k}。现在有多少{k}{o}？",
        "{n}每天卖{a}{k}{o}，卖了{b}天，又卖了{c}{k}。一共卖了多少{k}？",
        "有{b}个房间，每个房间有{a}{k}{o}，商店有{c}{k}。一共有多少{k}{o}？",
        "{b}个孩子每人得到{a}{k}{o}，还剩{c}{k}。原来有多少{k}{o}？",
        "有{b}排，每排{a}{k}{o}，箱子里还有{c}{k}。一共有多少{k}{o}？",
    ],
];

const ENGLISH_NAMES: &[&str] =
    &["Tom", "Anna", "Ben", "Lucy", "Sam", "Mia", "Jack", "Emma", "Leo", "Nina", "Max", "Sara"];

const CHINESE_NAMES: &[&str] = &[
    "小明", "小红", "小华", "小丽", "小刚", "小芳", "小强", "小梅", "小军", "小兰", "小东", "小玲",
];

const ENGLISH_THINGS: &[&str] = &[
    "apples", "books", "pens", "eggs", "cups", "cards", "stamps", "balls", "coins", "cakes",
    "chairs", "toys",
];

/// Measure word and thing.
const CHINESE_THINGS: &[(&str, &str)] = &[
    ("个", "苹果"),
    ("本", "书"),
    ("支", "笔"),
    ("个", "鸡蛋"),
    ("个", "杯子"),
    ("张", "卡片"),
    ("张", "邮票"),
    ("个", "球"),
    ("枚", "硬币"),
    ("块", "蛋糕"),
    ("把", "椅子"),
    ("个", "玩具"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_six_templates_in_each_language_and_names_its_operands() {
        for (kind, n_operands) in
            [(ADD, 2), (SUB, 2), (MUL, 2), (COMPARE, 2), (ADD_SUB, 3), (MUL_ADD, 3)]
        {
            for templates in kind {
                assert!(templates.len() >= 6);
                for template in templates {
                    for operand in ["{a}", "{b}", "{c}"].iter().take(n_operands) {
                        assert_eq!(template.matches(operand).count(), 1, "{template}");
                    }
                }
            }
        }
    }
}
