//! What holds of names for any text: those accepted are safe and read the same again, the others
//! are refused by name. Run on mutations here and by the fuzzer (`fuzz/`).

use fathom_hub::ModelName;

use crate::allocation::{bounded, clear};

/// A name of a model as somebody typed it.
pub(crate) fn hub_names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match bounded(bytes, 16, 4096, || ModelName::parse(&text)) {
        Ok(name) => {
            assert_eq!(ModelName::parse(&name.to_string()).ok().as_ref(), Some(&name));
            let revision = name.revision.as_str();
            let parts = name.repo.as_str().split('/').chain(revision.split('/'));
            let choice = name.choice.as_deref().unwrap_or("x");
            let safe =
                |part: &str| !part.is_empty() && part != ".." && !part.contains(['\\', '\0']);
            assert!(parts.chain(choice.split('/')).all(safe), "{text:?}");
        }
        Err(error) => clear(&error.to_string(), ""),
    }
}

/// Seeds of [`hub_names`].
pub(crate) fn hub_names_seeds() -> Vec<Vec<u8>> {
    [
        "deepseek-ai/DeepSeek-R1@refs/pr/1:Q4_K_M",
        "gpt2",
        "a.b_c/d-e@v1.0:UD-Q2/x-00001-of-00002.gguf",
    ]
    .map(Into::into)
    .to_vec()
}
