//! Templates render as `transformers` renders them: every case of `golden/chat/cases.json`.

use std::fs;
use std::path::{Path, PathBuf};

use fathom_text::chat::{ChatFormat, ChatRenderer, Conversation, Json, Options, TemplateFile};
use fathom_text::{Error, Message};

use crate::samples::tokenizer;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/chat")
}

fn renderer(template: &str) -> ChatRenderer {
    if let Some(name) = template.strip_prefix("built-in:") {
        let name = name.replace("r1_zero", "r1-zero").replace("v3_1", "v3.1");
        let text = ChatFormat::from_name(&name).unwrap().row().template.to_owned();
        return ChatRenderer::new(TemplateFile { text, ..file(template) }, tokenizer()).unwrap();
    }
    let path = root().join(format!("templates/{template}.jinja"));
    let text = fs::read_to_string(path).unwrap();
    ChatRenderer::new(TemplateFile { text, ..file(template) }, tokenizer()).unwrap()
}

fn file(template: &str) -> TemplateFile {
    TemplateFile {
        path: template.to_owned(),
        pad_token: Some("<｜▁pad▁｜>".into()),
        ..TemplateFile::default()
    }
}

fn conversation(golden: &Json, case: &Json) -> Conversation {
    let name = case.get("conversation").unwrap().as_str().unwrap();
    let messages = golden.get("conversations").unwrap().get(name).unwrap().to_string();
    let messages: Vec<Message> = serde_json::from_str(&messages).unwrap();
    let Some(Json::Array(tools)) = case.get("tools") else { panic!("tools") };
    Conversation { messages, tools: tools.clone() }
}

#[test]
fn templates_render_as_transformers_renders_them() {
    let golden = Json::parse(&fs::read_to_string(root().join("cases.json")).unwrap()).unwrap();
    let Some(Json::Array(cases)) = golden.get("cases") else { panic!("cases") };
    assert!(cases.len() > 100);
    let mut wrong = Vec::new();
    for case in cases {
        let template = case.get("template").unwrap().as_str().unwrap();
        let Some(Json::Object(variables)) = case.get("variables") else { panic!("variables") };
        let options = Options {
            add_generation_prompt: case.get("add_generation_prompt") == Some(&Json::Bool(true)),
            variables: variables.clone(),
            ..Options::default()
        };
        let conversation = conversation(&golden, case);
        let result = renderer(template).prompt(tokenizer(), &conversation, &options);
        let expected = case.get("expected").unwrap();
        let right = match (&result, expected.get("text"), expected.get("message")) {
            (Ok(prompt), Some(Json::String(text)), _) => prompt.text == *text,
            (Err(Error::Refused { message, .. }), _, Some(Json::String(expected))) => {
                message == expected
            }
            // What is a type error there need not be one here, but must not become text unseen.
            (Err(Error::Template { .. }), _, Some(_)) => true,
            _ => false,
        };
        if !right {
            let name = case.get("conversation").unwrap();
            let found = result.map(|prompt| prompt.text).map_err(|error| error.to_string());
            wrong.push(format!("{template} {name}\nexpected {expected}\nfound    {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n\n"));
}
